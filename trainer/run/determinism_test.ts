import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeReward } from "../testing/fake_reward.ts";
import { openRunModel, prepareRunConfig, type RunDependencies, RunStore } from "./mod.ts";

const root = new URL("../../tests/golden", import.meta.url).pathname;
/** Everything random is in it: two batches, redraws, noise in each step, shift, drift, a panel. */
const CONFIG = {
  model: "tiny-sd",
  method: { name: "draft-lv", m: 2, earlyStop: true },
  sampler: { steps: 3 },
  lora: { rank: 2, targets: ["to_q", "ff.net.2"] },
  optimizer: { learningRate: 0.01 },
  batch: { size: 2, accumulation: 2 },
  latentHeight: 8,
  latentWidth: 8,
  prompts: ["a red cat", "books", "an owl"],
  rewards: [{ name: "dark", endpoint: "dark" }, {
    name: "bright",
    endpoint: "bright",
    weight: 0.5,
  }],
  drift: { weight: 10 },
  randomShift: 3,
  panel: { every: 2, rewards: [{ name: "grey", endpoint: "grey" }] },
  iterations: 2,
  sampleEvery: 0,
};

/** The bytes of a run's LoRA file, and of its optimizer. */
async function trained(
  { threads, slow, seed = 0 }: {
    readonly threads: number;
    /** The reward that answers last. */
    readonly slow: string;
    readonly seed?: number;
  },
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "drtune-runs-"));
  try {
    const dependencies: RunDependencies = {
      prepare: (value) => prepareRunConfig(value, { root }),
      openModel: (config) =>
        openRunModel(config, { root, session: { intraOpNumThreads: threads } }),
      connect: ({ endpoint }) => {
        const reward = new FakeReward(["dark", "bright", "grey"].indexOf(endpoint) / 2);
        if (endpoint === slow) reward.onCall = () => new Promise((done) => setTimeout(done, 20));
        return Promise.resolve(reward);
      },
    };
    const store = await RunStore.open(folder, dependencies);
    const { run } = await store.start("run", { ...CONFIG, seed });
    for await (const event of run.watch(0)) void event;
    await store.close();
    assert.equal(run.state, "finished", String(run.lastState?.reason));
    const files = await Promise.all(
      ["lora", "optimizer"].map((name) =>
        readFile(join(run.folder.checkpoints, "step-000002", `${name}.safetensors`))
      ),
    );
    return files.map((bytes) => bytes.toString("base64")).join();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

Deno.test("the same configuration gives the same bytes, whatever the threads and whoever answers first", async () => {
  const first = await trained({ threads: 1, slow: "dark" });
  const second = await trained({ threads: 2, slow: "bright" });
  assert.ok(first === second, "the bytes differ");
  assert.ok(first !== await trained({ threads: 1, slow: "", seed: 1 }), "the seed changes nothing");
});
