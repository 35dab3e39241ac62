import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  readCheckpoint,
  type RunDependencies,
  type RunEvent,
  RunStore,
  type TrainingRun,
} from "../run/mod.ts";
import { fakeModel } from "./fake_networks.ts";
import { FakeReward } from "./fake_reward.ts";

/** A run of the fake model that takes no time. */
export const CONFIG = {
  model: "fake",
  sampler: { steps: 6 },
  method: { k: 2, m: 3 },
  guidance: { scale: 2 },
  optimizer: { learningRate: 0.05 },
  batch: { size: 2 },
  prompts: ["a fox", "books", "a cat, and books"],
  heldOutPrompts: ["a dog", "an owl"],
  rewards: [{ name: "dark", endpoint: "dark" }],
  seed: 7,
  iterations: 9,
  checkpointEvery: 4,
  sampleEvery: 4,
};

/** Rewards by endpoint, for one test. */
export function world(rewards: Record<string, FakeReward>): RunDependencies {
  return {
    openModel: () => Promise.resolve(fakeModel()),
    connect: ({ endpoint }) => {
      const reward = rewards[endpoint];
      return reward ? Promise.resolve(reward) : Promise.reject(new Error(`No reward ${endpoint}`));
    },
    maxRetryMs: 5,
  };
}

/** Works in a folder of its own. */
export async function inFolder(work: (root: string) => Promise<void>): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), "drtune-runs-"));
  try {
    await work(root);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** Waits for an event of a run; all events until then. */
export async function until(
  run: TrainingRun,
  wanted: (event: RunEvent) => boolean = () => false,
): Promise<RunEvent[]> {
  const seen: RunEvent[] = [];
  for await (const event of run.log.watch(0)) {
    seen.push(event);
    if (wanted(event)) break;
  }
  return seen;
}
/** Whether an event is of this state. */
export const isState = (state: string) => (e: RunEvent) => e.type === "state" && e.state === state;
/** Whether an event is of this step. */
export const isStep = (step: number) => (e: RunEvent) => e.type === "step" && e.step === step;

/** What a run has come to, bit by bit. */
export async function result(root: string, { step = 9 } = {}): Promise<string> {
  const { parameters, optimizer, average = {}, reference = {} } = await readCheckpoint(
    join(root, "run", "checkpoints"),
    step,
  );
  const bits = ({ data }: { data: Float32Array }) => [...new Uint32Array(data.slice().buffer)];
  return JSON.stringify(
    [parameters, optimizer.mean, optimizer.square, average, reference].map((tensors) =>
      Object.entries(tensors).map(([name, t]) => [name, bits(t)])
    ),
  );
}

/** Trains from the folder's state to the end, undisturbed. */
export async function finish(
  root: string,
  rewards: Record<string, FakeReward>,
): Promise<TrainingRun> {
  const store = await RunStore.open(root, world(rewards));
  const run = store.get("run");
  await until(run);
  await store.close();
  assert.equal(run.state, "finished", String(run.log.lastState?.reason));
  return run;
}

/** What a run comes to that nothing disturbs. */
export async function undisturbed(iterations = 9, config: object = CONFIG): Promise<string> {
  let bytes = "";
  await inFolder(async (root) => {
    const store = await RunStore.open(root, world({ dark: new FakeReward(0.2) }));
    await until((await store.start("run", { ...config, iterations })).run);
    await store.close();
    bytes = await result(root, { step: iterations });
  });
  return bytes;
}
