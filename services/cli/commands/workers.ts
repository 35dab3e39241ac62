import { toJson } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Worker, WorkerSchema, WorkerState } from "../../../proto/mod.ts";
import type { Command } from "../command.ts";
import { table } from "../stack/table.ts";
import { TRAINER_OPTIONS, trainerClient } from "../trainer/client.ts";

/** Lists the workers of a trainer. */
export const workers: Command = {
  name: "workers",
  summary: "List the workers that compute for a trainer service, with their throughput",
  usage: "",
  options: TRAINER_OPTIONS,
  examples: ["drtune workers", "drtune workers --json"],
  async run(args, signal) {
    const client = await trainerClient(args);
    try {
      const { workers } = await client.listWorkers({}, { timeoutMs: 60_000, signal });
      if (args.flag("json")) {
        for (const worker of workers) console.log(JSON.stringify(toJson(WorkerSchema, worker)));
      } else if (workers.length === 0) {
        console.error(
          "No workers: without a cluster the trainer computes itself, with one it waits for some",
        );
      } else console.log(table([HEADS, ...workers.map((worker) => row(worker, Date.now()))]));
      return 0;
    } finally {
      client.close();
    }
  },
};

const HEADS = ["NAME", "STATE", "RUN", "JOBS", "FAILED", "JOBS/MIN", "SEEN", "HARDWARE"];

/** A worker's line. `now` is in milliseconds since 1970. */
export function row(worker: Worker, now: number): string[] {
  const { name, state, runId, jobsDone, jobsFailed, secondsPerJob, seenAt, hardware } = worker;
  const seen = seenAt === undefined ? "" : `${((now - timestampMs(seenAt)) / 1000).toFixed(0)} s`;
  const said = (WorkerState[state] ?? "").toLowerCase();
  return [
    name,
    worker.reason === "" ? said : `${said}: ${worker.reason}`,
    runId,
    String(jobsDone),
    String(jobsFailed),
    secondsPerJob === 0 ? "" : (60 / secondsPerJob).toFixed(1),
    seen,
    hardware,
  ];
}
