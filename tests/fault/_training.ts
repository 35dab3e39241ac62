import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fromJson } from "@bufbuild/protobuf";
import { type RunConfigJson, RunConfigSchema, RunState, TrainerService } from "../../proto/mod.ts";
import { grpcClient } from "../../services/rpc/mod.ts";
import { Victim } from "./_victim.ts";

/** Iterations of a run: a checkpoint at every other, pictures at every third. */
export const ITERATIONS = 8;

/** How runs train, but for their rewards. */
export const CONFIG = {
  model: "tiny-sd",
  sampler: { kind: "ddpm", steps: 4 },
  method: { name: "drtune", k: 2, m: 2 },
  lora: { rank: 2 },
  optimizer: { learningRate: 1e-2 },
  batch: { size: 2 },
  prompts: {
    source: { case: "list" as const, value: { prompts: ["a red cat", "books", "a fox"] } },
  },
  latentHeight: 8,
  latentWidth: 8,
  seed: 7,
  iterations: ITERATIONS,
  checkpointEvery: 2,
  sampleEvery: 3,
};

/** A reward server of the symmetry reward, which needs no weights. */
export function startReward(port = 0): Victim {
  return new Victim("services/reward/main.ts", ["--reward", "symmetry", "--port", String(port)]);
}

/** A trainer over a folder of runs. */
export function startTrainer(runs: string): Victim {
  return new Victim("services/trainer/main.ts", trainerOptions(runs));
}

/** Options of a trainer. One thread: what is compared bit by bit must not depend on how busy the machine is. */
export function trainerOptions(runs: string): string[] {
  return ["--models", "tests/golden", "--runs", runs, "--port", "0", "--threads", "1"];
}

/** Asks for a run, which may be there already, and waits until it has ended. Throws where it did not finish. */
export async function train(
  trainer: string,
  { id, reward, iterations = ITERATIONS, fields = {}, signal }: {
    readonly id: string;
    /** Address of its reward. */
    readonly reward: string;
    readonly iterations?: number;
    /** In place of these of the configuration. */
    readonly fields?: Partial<Omit<RunConfigJson, "prompts">>;
    readonly signal?: AbortSignal;
  },
): Promise<void> {
  const client = grpcClient(TrainerService, trainer);
  const options = signal === undefined ? {} : { signal };
  try {
    const rewards = [{ name: "symmetry", endpoint: reward }];
    const prompts = { list: CONFIG.prompts.source.value };
    const config = fromJson(RunConfigSchema, {
      ...{ ...CONFIG, prompts, rewards, iterations, ...fields },
    });
    await client.startRun({ runId: id, config }, options);
    let last = { state: RunState.UNSPECIFIED, reason: "" };
    for await (const { event } of client.watchRun({ runId: id }, options)) {
      if (event.case === "state") last = event.value;
    }
    if (last.state !== RunState.FINISHED) {
      throw new Error(`Run ${id} is ${RunState[last.state]}: ${last.reason}`);
    }
  } finally {
    client.close();
  }
}

/** Iterations a run's log tells of; 0 where there is no run yet. */
export async function stepsDone(runs: string, id: string): Promise<number> {
  const log = await readFile(join(runs, id, "events.jsonl"), "utf8").catch(() => "");
  return (log.match(/^{"type":"step","step":[1-9]/gm) ?? []).length;
}

/** What a run has come to: the files of its last checkpoint, and the losses its log names, in order. */
export async function outcome(runs: string, id: string) {
  const folder = join(runs, id);
  const checkpoint = join(folder, "checkpoints", `step-${String(ITERATIONS).padStart(6, "0")}`);
  const lines = (await readFile(join(folder, "events.jsonl"), "utf8")).trim().split("\n");
  return {
    lora: await readFile(join(checkpoint, "lora.safetensors")),
    optimizer: await readFile(join(checkpoint, "optimizer.safetensors")),
    losses: lines.map((line) => JSON.parse(line)).flatMap(({ type, step, loss }) =>
      type === "step" ? [[step, loss]] : []
    ),
  };
}
