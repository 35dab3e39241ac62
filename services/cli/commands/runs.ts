import { toJson } from "@bufbuild/protobuf";
import { type Run, RunSchema, RunState } from "../../../proto/mod.ts";
import { runPages } from "../../rpc/mod.ts";
import { type Arguments, type Command, UsageError } from "../command.ts";
import { TRAINER_OPTIONS, trainerClient } from "../trainer/client.ts";
import { Directions } from "../trainer/directions.ts";
import { followRun } from "../trainer/follow.ts";
import { describeStep, stateName } from "../trainer/watch.ts";

const CALL = { timeoutMs: 60_000 };

/** The run id, the only positional argument. */
export function runIdOf(args: Arguments): string {
  const [id, ...more] = args.positionals;
  if (id === undefined) throw new UsageError("Name a run");
  if (more.length > 0) throw new UsageError(`Unexpected "${more[0]}"`);
  return id;
}

/** Prints runs, a line each: what their rewards are, and which way is better. */
async function show(runs: readonly (Run | undefined)[], json: boolean): Promise<void> {
  const directions = new Directions();
  // At once: of old runs many rewards may be away, each of which is waited for.
  const lines = await Promise.all(runs.map(async (run) => {
    if (run === undefined) throw new Error("The trainer answered no run");
    if (json) return JSON.stringify(toJson(RunSchema, run));
    const { latest: step, config } = run;
    const latest = step === undefined
      ? ""
      : `  ${describeStep(step, await directions.lower(config?.rewards ?? []))}`;
    const reason = run.reason === "" ? "" : `  (${run.reason})`;
    return `${run.id}  ${stateName(run.state)}  ${run.step}/${run.iterations}${latest}${reason}`;
  }));
  for (const line of lines) console.log(line);
}

/** Lists runs, or shows one. */
export const runs: Command = {
  name: "runs",
  summary: "List the runs of a trainer service, or show one",
  usage: "[RUN]",
  options: TRAINER_OPTIONS,
  examples: ["drtune runs", "drtune runs books-1 --json"],
  async run(args, signal) {
    const client = await trainerClient(args);
    try {
      const call = { ...CALL, signal };
      if (args.positionals.length > 0) {
        await show([(await client.getRun({ runId: runIdOf(args) }, call)).run], args.flag("json"));
        return 0;
      }
      let count = 0;
      for await (const page of runPages(client, call)) {
        await show(page, args.flag("json"));
        count += page.length;
      }
      if (count === 0 && !args.flag("json")) console.error("No runs");
      return 0;
    } finally {
      client.close();
    }
  },
};

/** Follows a run. */
export const watch: Command = {
  name: "watch",
  summary: "Follow a run until it ends",
  usage: "RUN [--from STEP]",
  options: {
    from: { type: "string", value: "STEP", help: "first step to show (default 1)" },
    ...TRAINER_OPTIONS,
  },
  examples: ["drtune watch books-1", "drtune watch books-1 --from 40 --json"],
  async run(args, signal) {
    const runId = runIdOf(args);
    const client = await trainerClient(args);
    try {
      const { run } = await client.getRun({ runId }, { ...CALL, signal });
      const fromStep = args.number("from", { min: 1, integer: true }) ?? 1;
      return await followRun(client, {
        runId,
        iterations: run?.iterations ?? 0,
        rewards: run?.config?.rewards ?? [],
        fromStep,
        json: args.flag("json"),
        signal,
      });
    } finally {
      client.close();
    }
  },
};

/** Stops a run. */
export const stop: Command = {
  name: "stop",
  summary: "Finish a run's step, write a checkpoint and stop it; waits until that is done",
  usage: "RUN",
  options: TRAINER_OPTIONS,
  examples: ["drtune stop books-1"],
  async run(args, signal) {
    const client = await trainerClient(args);
    const runId = runIdOf(args);
    try {
      const { run } = await client.stopRun({ runId }, { ...CALL, signal });
      if (run?.state !== RunState.STOPPING) {
        await show([run], args.flag("json"));
        return 0;
      }
      if (!args.flag("json")) console.error(`${runId} finishes step ${run.step + 1} …`);
      // The events end when the run has, its checkpoint written.
      for await (const _ of client.watchRun({ runId, fromStep: run.step + 1 }, { signal }));
      await show([(await client.getRun({ runId }, { ...CALL, signal })).run], args.flag("json"));
      return 0;
    } finally {
      client.close();
    }
  },
};

/** Saves a run. */
export const save: Command = {
  name: "save",
  summary: "Write a checkpoint at a run's next step boundary and go on",
  usage: "RUN",
  options: TRAINER_OPTIONS,
  examples: ["drtune save books-1"],
  async run(args, signal) {
    const client = await trainerClient(args);
    const runId = runIdOf(args);
    try {
      const { step } = await client.saveRun({ runId }, { ...CALL, signal });
      console.log(
        args.flag("json")
          ? JSON.stringify({ runId, step })
          : `${runId} is saved after step ${step}`,
      );
      return 0;
    } finally {
      client.close();
    }
  },
};

/** Continues a run. */
export const resume: Command = {
  name: "resume",
  summary:
    "Continue a stopped or failed run from its last checkpoint, or a finished one for longer",
  usage: "RUN [--iterations N]",
  options: {
    iterations: { type: "string", value: "N", help: "new number of iterations" },
    ...TRAINER_OPTIONS,
  },
  examples: ["drtune resume books-1", "drtune resume books-1 --iterations 200"],
  async run(args, signal) {
    const client = await trainerClient(args);
    const iterations = args.number("iterations", { min: 1, integer: true });
    const request = { runId: runIdOf(args), ...(iterations !== undefined && { iterations }) };
    try {
      await show([(await client.resumeRun(request, { ...CALL, signal })).run], args.flag("json"));
      return 0;
    } finally {
      client.close();
    }
  },
};
