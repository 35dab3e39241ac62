import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TEST_PROVIDER } from "../../../runtime/testing/mod.ts";
import {
  openRunModel,
  type Parameters,
  prepareRunConfig,
  readCheckpoint,
  RunStore,
  type StepEvent,
} from "../../../trainer/mod.ts";
import { FakeReward } from "../../../trainer/testing/mod.ts";

/** What images are to come near: the reward is the mean squared difference of their values to it. */
const TARGET = 0.2;

/** A run with everything that an update has: accumulation, clipping, warm-up, weight decay, guidance, early stops. */
export const CONFIG = {
  model: "tiny-sd",
  method: { name: "drtune", k: 2, m: 2 },
  sampler: { kind: "ddpm", steps: 4 },
  guidance: { scale: 3, gradient: "both" },
  lora: { rank: 2, alpha: 4 },
  optimizer: { learningRate: 0.01, weightDecay: 0.1, maxGradNorm: 0.02, warmup: 3 },
  batch: { size: 1, accumulation: 2 },
  prompts: ["a red cat", "books", "a fox, and books"],
  rewards: [{ name: "dark", endpoint: "dark", weight: 2 }],
  seed: 11,
  iterations: 10,
  latentHeight: 8,
  latentWidth: 8,
  sampleEvery: 0,
};

/** Trains as the trainer does, with a store, a folder and checkpoints. Answers what each iteration said, and the LoRA. */
export async function trained(): Promise<{ steps: StepEvent[]; lora: Parameters }> {
  const root = new URL("..", import.meta.url).pathname;
  const session = { intraOpNumThreads: 1, provider: TEST_PROVIDER };
  const folder = await mkdtemp(join(tmpdir(), "drtune-golden-"));
  const store = await RunStore.open(folder, {
    prepare: (value) => prepareRunConfig(value, { root, session }),
    openModel: (config) => openRunModel(config, { root, session }),
    connect: () => Promise.resolve(new FakeReward(TARGET)),
  });
  try {
    const { run } = await store.start("run", CONFIG);
    for await (const event of run.log.watch(0)) void event;
    if (run.state !== "finished") throw new Error(run.log.lastState?.reason);
    const { parameters: lora } = await readCheckpoint(run.folder.checkpoints, CONFIG.iterations);
    return { steps: run.log.events.filter((e) => e.type === "step"), lora };
  } finally {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
}
