import { timestampMs } from "@bufbuild/protobuf/wkt";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { fromJson } from "@bufbuild/protobuf";
import { type RunConfigJson, RunConfigSchema, RunState, TrainerService } from "../../proto/mod.ts";
import { grpcClient } from "../../services/rpc/mod.ts";
import { Victim } from "./_victim.ts";

/** How runs train, but for their rewards: a checkpoint at every other iteration, pictures at every third. */
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
  iterations: 8,
  checkpointEvery: 2,
  sampleEvery: 3,
};

const TLS = fileURLToPath(new URL("../../services/rpc/testing/tls/", import.meta.url));

/** A reward server of the symmetry reward, which needs no weights. */
export function startReward(
  port = 0,
  { overTls = false }: { readonly overTls?: boolean } = {},
): Victim {
  const tls = { cert: join(TLS, "server.pem"), key: join(TLS, "server.key") };
  return new Victim("services/reward/main.ts", [
    ...["--reward", "symmetry", "--port", String(port)],
    ...overTls ? ["--settings", JSON.stringify({ tls })] : [],
  ]);
}

/** A trainer over a folder of runs. */
export function startTrainer(runs: string, options: { readonly models?: string } = {}): Victim {
  return new Victim("services/trainer/main.ts", trainerOptions(runs, options));
}

/** Options of a trainer. One thread: what is compared bit by bit must not depend on how busy the machine is. */
export function trainerOptions(
  runs: string,
  { models = "tests/golden" }: { readonly models?: string } = {},
): string[] {
  return [
    ...["--models", models, "--runs", runs, "--port", "0", "--threads", "1"],
    ...["--reward-ca", join(TLS, "ca.pem")],
  ];
}

/** The end of an iteration. */
export interface StepTold {
  readonly step: number;
  /** By the system's clock. */
  readonly atMs: number;
  /** By phase. */
  readonly seconds: Readonly<Record<string, number>>;
}

/** Asks for a run, which may be there already, and waits until it has ended. Throws where it did not finish. */
export async function train(
  trainer: string,
  { id, reward, fields = {}, signal, onStep = () => {} }: {
    readonly id: string;
    /** Address of its reward. */
    readonly reward: string;
    /** In place of these of the configuration. */
    readonly fields?: Partial<Omit<RunConfigJson, "prompts">>;
    readonly signal?: AbortSignal;
    /** Told of each step, also of those that were done before. */
    readonly onStep?: (event: StepTold) => void;
  },
): Promise<void> {
  const client = grpcClient(TrainerService, trainer);
  const options = signal === undefined ? {} : { signal };
  try {
    const rewards = [{ name: "symmetry", endpoint: reward }];
    const prompts = { list: CONFIG.prompts.source.value };
    const config = fromJson(RunConfigSchema, { ...CONFIG, prompts, rewards, ...fields });
    await client.startRun({ runId: id, config }, options);
    let last = { state: RunState.UNSPECIFIED, reason: "" };
    for await (const { event } of client.watchRun({ runId: id }, options)) {
      if (event.case === "state") last = event.value;
      if (event.case !== "step") continue;
      const { step, at, seconds } = event.value;
      onStep({ step, seconds, atMs: at === undefined ? NaN : timestampMs(at) });
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

/** What is in a run's folder of checkpoints: the step of the last one, 0 where there is none, and attempts at others. */
export async function checkpointsOf(runs: string, id: string) {
  const names = await readdir(join(runs, id, "checkpoints")).catch(() => []);
  const steps = names.flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? []).map(Number);
  return { last: Math.max(0, ...steps), attempts: names.filter((name) => name.startsWith(".")) };
}

/** The folder of a checkpoint. */
export function nameOf(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

/** What a run has come to: the files of its last checkpoint, and the losses its log names, in order. */
export async function outcome(runs: string, id: string) {
  const folder = join(runs, id);
  const { last } = await checkpointsOf(runs, id);
  const checkpoint = join(folder, "checkpoints", nameOf(last));
  const lines = (await readFile(join(folder, "events.jsonl"), "utf8")).trim().split("\n");
  return {
    last,
    lora: await readFile(join(checkpoint, "lora.safetensors")),
    optimizer: await readFile(join(checkpoint, "optimizer.safetensors")),
    losses: lines.map((line) => JSON.parse(line)).flatMap(({ type, step, loss }) =>
      type === "step" ? [[step, loss]] : []
    ),
  };
}
