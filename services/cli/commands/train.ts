import { toJson } from "@bufbuild/protobuf";
import { RunSchema } from "../../../proto/mod.ts";
import type { Command } from "../command.ts";
import { TRAINER_OPTIONS, trainerClient } from "../trainer/client.ts";
import { readRunConfig } from "../trainer/run_config_file.ts";
import { stateName } from "../trainer/watch.ts";
import { followRun } from "../trainer/follow.ts";
import { UsageError } from "../command.ts";

/** Starts a run and follows it. */
export const train: Command = {
  name: "train",
  summary: "Start a run on a trainer service and follow it",
  usage: "--config run.yaml [--id NAME] [--detach]",
  options: {
    config: { type: "string", value: "FILE", help: "the run's configuration, YAML or JSON" },
    id: { type: "string", value: "NAME", help: "the run's id (default: from the time)" },
    detach: { type: "boolean", help: "return once the run has started" },
    ...TRAINER_OPTIONS,
  },
  examples: [
    "drtune train --config configs/books.yaml --id books-1",
    "drtune train --config configs/books.yaml --detach --json",
  ],
  async run(args, signal) {
    if (args.positionals.length > 0) throw new UsageError(`Unexpected "${args.positionals[0]}"`);
    const config = await readRunConfig(args.required("config"));
    const runId = args.text("id") ??
      `run-${new Date().toISOString().replaceAll(/[^0-9]/g, "").slice(0, 14)}`;
    const client = await trainerClient(args);
    try {
      const { run, created } = await client.startRun({ runId, config }, {
        timeoutMs: 60_000,
        signal,
      });
      if (run === undefined) throw new Error("The trainer answered no run");
      const json = args.flag("json");
      if (json) console.log(JSON.stringify({ created, run: toJson(RunSchema, run) }));
      else {console.error(
          `Run ${run.id} ${created ? "started" : `is there already (${stateName(run.state)})`}`,
        );}
      if (args.flag("detach")) return 0;
      const rewards = run.config?.rewards ?? [];
      return await followRun(client, {
        ...{ runId, iterations: run.iterations, rewards, json, signal },
      });
    } finally {
      client.close();
    }
  },
};
