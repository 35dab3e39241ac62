import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeReward } from "../testing/fake_reward.ts";
import {
  openRunModel,
  parseRunConfig,
  prepareRunConfig,
  readCheckpoint,
  type RunDependencies,
  RunStore,
} from "./mod.ts";

const root = new URL("../../tests/golden", import.meta.url).pathname;
const CONFIG = {
  model: "tiny-sd",
  sampler: { steps: 3 },
  method: { k: 1, m: 2 },
  lora: { rank: 2 },
  latentHeight: 8,
  latentWidth: 8,
  prompts: ["a red cat", "books"],
  rewards: [{ name: "dark", endpoint: "dark" }],
  iterations: 2,
  checkpointEvery: 1,
  sampleEvery: 0,
};

Deno.test("a configuration is checked against its model before anything is loaded", async () => {
  const prepared = (fields: object) =>
    prepareRunConfig(parseRunConfig({ ...CONFIG, ...fields }), { root });
  const { latentHeight, latentWidth } = await prepared({
    latentHeight: undefined,
    latentWidth: 12,
  });
  assert.deepEqual([latentHeight, latentWidth], [16, 12]);
  const refused = async (fields: object, message: RegExp) =>
    await assert.rejects(prepared(fields), message);
  await refused(
    { model: "nothing" },
    /Field model is "nothing", which the model root does not have/,
  );
  await refused({ model: "../../zoo" }, /Field model is "\.\.\/\.\.\/zoo", expected a path inside/);
  await refused({ model: "cases" }, /model_index\.json/);
  await refused({ lora: { targets: ["to_x"] } }, /Field lora\.targets .*"to_x" names no layer/);
  await refused({ sampler: { eta: 0.5 } }, /Field sampler\.eta is 0\.5, expected 0/);
  await refused({ sampler: { steps: 1000 } }, /Field steps_offset is 1, expected less/);
});

Deno.test("a real model trains in a process of its own, and goes on bit for bit", async () => {
  const folder = await mkdtemp(join(tmpdir(), "drtune-runs-"));
  try {
    const dependencies: RunDependencies = {
      prepare: (config) => prepareRunConfig(config, { root }),
      openModel: (config) => openRunModel(config, { root, session: { intraOpNumThreads: 1 } }),
      connect: () => Promise.resolve(new FakeReward(0.2)),
    };
    const store = await RunStore.open(folder, dependencies);
    const { run } = await store.start("whole", CONFIG);
    for await (const event of run.watch(0)) void event;
    assert.equal(run.state, "finished", String(run.lastState?.reason));
    const { run: parts } = await store.start("parts", { ...CONFIG, iterations: 1 });
    for await (const event of parts.watch(0)) void event;
    await store.resume("parts", 2);
    for await (const event of parts.watch(0)) void event;
    const [a, b] = await Promise.all(
      [run, parts].map((r) => readCheckpoint(r.folder.checkpoints, 2)),
    );
    await store.close();
    assert.deepEqual(a, b);
    const losses = run.events.flatMap((e) => e.type === "step" ? e.loss : []);
    assert.equal(losses.length, 2);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
