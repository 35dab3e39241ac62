import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { float32 } from "../../autodiff/mod.ts";
import { readPipeline, unetModules } from "../../models/diffusers/mod.ts";
import { initialLora, loraShapes, toDiffusersLora } from "../../models/lora/mod.ts";
import { writeSafetensors } from "../../models/weights/mod.ts";
import { mapParameters } from "../tensors.ts";
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
  assert.equal((await prepared({ memoryLimit: 3.5 })).memoryLimit, 3.5);
  assert.ok(((await prepared({})).memoryLimit ?? 0) >= 1);
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
  await refused({ sampler: { steps: 1000 } }, /Field sampler.steps is 1000, expected 1 to 999/);
  await refused({ randomShift: 16 }, /Field randomShift is 16, expected less than .* 16x16/);
});

Deno.test("a LoRA to start from decides rank, alpha and targets, or must agree with them", async () => {
  const folder = await mkdtemp(join(tmpdir(), "drtune-start-"));
  try {
    await cp(join(root, "tiny-sd"), join(folder, "model"), { recursive: true });
    const { unet } = await readPipeline(join(folder, "model"));
    const layers = unetModules(unet);
    const lora = { rank: 3, alpha: 6, targets: ["to_q", "ff.net.2"] };
    const tensors = mapParameters(
      initialLora(loraShapes(layers, lora), 5),
      ({ data, shape }) => float32(data.map((v, i) => v + Math.sin(i)), shape),
    );
    const { tensors: named, metadata } = toDiffusersLora({ ...lora, tensors });
    await writeSafetensors(join(folder, "start.safetensors"), named, metadata);
    const prepared = (fields: object) =>
      prepareRunConfig({
        ...CONFIG,
        model: "model",
        lora: { init: "start.safetensors", ...fields },
      }, {
        root: folder,
      });
    const config = await prepared({});
    const { rank, alpha, targets } = config.lora;
    assert.deepEqual({ rank, alpha, targets }, lora);
    assert.deepEqual(await prepareRunConfig(config, { root: folder }), config);
    const refused = async (fields: object, message: RegExp) =>
      await assert.rejects(prepared(fields), message);
    await refused({ rank: 4 }, /Field lora\.rank is 4, expected 3, as start\.safetensors has it/);
    await refused({ alpha: 3 }, /Field lora\.alpha is 3, expected 6/);
    await refused(
      { targets: ["to_q"] },
      /Field lora\.targets is \["to_q"\], expected \["to_q","ff\.net\.2"\].* differ in .*ff\.net\.2/,
    );
    await refused({ init: "nothing" }, /Field lora\.init is "nothing", which the model root/);
    await refused(
      { init: "model/unet/diffusion_pytorch_model.safetensors" },
      /Field lora\.init is not for this model: LoRA file .*"conv_in\.bias" is a weight in full/,
    );

    const opened = await openRunModel(config, { root: folder });
    try {
      const start = await opened.readStart?.();
      assert.deepEqual(start?.lora.tensors, tensors);
      assert.match(start?.sha256 ?? "", /^[0-9a-f]{64}$/);
    } finally {
      await opened.release();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
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
    for await (const event of run.log.watch(0)) void event;
    assert.equal(run.state, "finished", String(run.log.lastState?.reason));
    const { run: parts } = await store.start("parts", { ...CONFIG, iterations: 1 });
    for await (const event of parts.log.watch(0)) void event;
    await store.resume("parts", 2);
    for await (const event of parts.log.watch(0)) void event;
    const [a, b] = await Promise.all(
      [run, parts].map((r) => readCheckpoint(r.folder.checkpoints, 2)),
    );
    await store.close();
    assert.deepEqual(a, b);
    const losses = run.log.events.flatMap((e) => e.type === "step" ? e.loss : []);
    assert.equal(losses.length, 2);
    // What both processes spent: more than nothing, and no more than the cores of this machine can in the time.
    const steps = run.log.events.flatMap((e) => e.type === "step" && e.step > 0 ? e : []);
    for (const { cpuSeconds = NaN, seconds: { total = NaN } } of steps) {
      const most = navigator.hardwareConcurrency * (total + 1);
      assert.ok(cpuSeconds > 0.01 && cpuSeconds < most, `${cpuSeconds} s in ${total} s`);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
