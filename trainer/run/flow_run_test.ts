import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeReward } from "../testing/mod.ts";
import { readCheckpoint } from "./checkpoint.ts";
import { openRunModel, prepareRunConfig } from "./open_model.ts";
import { type RunDependencies, RunStore } from "./mod.ts";

const root = new URL("../../tests/golden/flow", import.meta.url).pathname;
const CONFIG = {
  model: "tiny-sd3",
  prompts: ["a red cat", "books"],
  rewards: [{ name: "fake", endpoint: "reward:1" }],
  sampler: { steps: 4 },
  lora: { rank: 2 },
  iterations: 2,
  sampleEvery: 0,
  checkpointEvery: 0,
  memoryLimit: 4,
};

Deno.test("a flow's run has its family's sampler, guidance, targets and DRTune's published rule", async () => {
  const config = await prepareRunConfig({ ...CONFIG, sampler: { steps: 10 } }, { root });
  assert.deepEqual(config.sampler, { kind: "flow-euler", steps: 10, eta: 0 });
  assert.deepEqual(config.guidance, { scale: 4.5, gradient: "both" });
  assert.deepEqual(config.method, {
    name: "drtune",
    k: 3,
    m: 4,
    inputStopGradient: true,
    earlyStop: true,
    stepRule: "prefix",
  });
  assert.ok(config.lora.targets.includes("add_q_proj"));
  assert.deepEqual([config.latentHeight, config.latentWidth], [16, 16]);
  // What is frozen is read again when a run goes on.
  assert.deepEqual(await prepareRunConfig(config, { root }), config);
});

Deno.test("what a flow cannot be trained with is refused by field", async () => {
  const refused = async (fields: object, says: RegExp) =>
    await assert.rejects(prepareRunConfig({ ...CONFIG, ...fields }, { root }), says);
  await refused(
    { sampler: { kind: "ddim", steps: 4 } },
    /Field sampler\.kind is "ddim", expected "flow-euler"/,
  );
  await refused(
    { sampler: { kind: "dpmsolver++", steps: 4 }, method: { name: "flowbp-bridge" } },
    /Field sampler\.kind is "dpmsolver\+\+", which remembers a prediction/,
  );
  await refused({ method: { name: "flowbp-sparse", k: 9 } }, /Field method\.k is 9, expected .* 4/);
  await refused(
    { drift: { kind: "kl", weight: 1 } },
    /Field drift\.kind is "kl", expected "l2": sampler flow-euler/,
  );
});

Deno.test("a flow is trained by DRTune and by a method of two parts, and goes on bit for bit", async () => {
  const folder = await mkdtemp(join(tmpdir(), "drtune-flow-"));
  try {
    const dependencies: RunDependencies = {
      prepare: (config) => prepareRunConfig(config, { root }),
      openModel: (config) => openRunModel(config, { root, session: { intraOpNumThreads: 1 } }),
      connect: () => Promise.resolve(new FakeReward(0.2)),
    };
    const store = await RunStore.open(folder, dependencies);
    for (const name of ["drtune", "flowbp-lagrange"]) {
      const { run } = await store.start(name, { ...CONFIG, method: { name }, iterations: 1 });
      for await (const event of run.log.watch(0)) void event;
      assert.equal(run.state, "finished", `${name}: ${run.log.lastState?.reason}`);
      const [step] = run.log.events.flatMap((e) => e.type === "step" ? e : []);
      assert.ok(step && step.gradNorm > 0 && Number.isFinite(step.gradNorm), name);
    }
    const method = { name: "flowbp-lagrange" };
    const { run } = await store.start("whole", { ...CONFIG, method });
    for await (const event of run.log.watch(0)) void event;
    await store.resume("flowbp-lagrange", 2);
    const parts = store.get("flowbp-lagrange");
    for await (const event of parts.log.watch(0)) void event;
    const [a, b] = await Promise.all(
      [run, parts].map((r) => readCheckpoint(r.folder.checkpoints, 2)),
    );
    await store.close();
    assert.deepEqual(a, b);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
