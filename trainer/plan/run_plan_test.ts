import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { float32, sizeOf } from "../../autodiff/mod.ts";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { openRunModel, prepareRunConfig } from "../run/mod.ts";
import { concatBatch } from "../tensors.ts";
import { planRun, type Speed } from "./mod.ts";

/** How far a process may stay below the estimate of its memory. It is to stay below, since a limit is a bound. */
const MEMORY_FACTOR = 1.6;

/** How far operations may be from those that PyTorch counts: LoRA comes on top, and some convolutions take fewer. */
const FLOPS_FACTOR = 1.25;
/** By torch.utils.flop_counter on diffusers' networks from the same folder, without LoRA, four images each. */
const TORCH_FLOPS = { sampling: 3_415_474_176, decoder: 5_032_673_280 };

const root = fileURLToPath(new URL("../../zoo", import.meta.url));
const CONFIG = {
  model: "pipeline",
  sampler: { steps: 20 },
  method: { k: 2, m: 4 },
  batch: { size: 4 },
  prompts: ["a fox, and books"],
  rewards: [{ name: "dark", endpoint: "dark" }],
};
const SPEED: Speed = {
  flops: { matrix: 1e9, convolution: 1e9, attention: 1e9, loop: 1e9 },
  plainConvolution: 1e9,
  traffic: 1e9,
  operator: 1e-5,
  loading: 1e-4,
};
const pipeline = await readPipeline(`${root}/pipeline`);

Deno.test("the estimate of memory is what a process takes that runs every network", async () => {
  for (const memoryLimit of [2, 0.25]) {
    const config = await prepareRunConfig({ ...CONFIG, memoryLimit }, { root });
    const { phases, bytes, adapterBytes } = planRun(config, { pipeline, speed: SPEED });
    const isCut = phases.some(({ pieces }) => pieces > 1);
    assert.equal(isCut, memoryLimit === 0.25);
    const opened = await openRunModel(config, { root, session: { intraOpNumThreads: 1 } });
    try {
      const { model, latents: { channels, height, width } } = opened;
      const [images, k] = [4, 2];
      const prompts = Array.from({ length: images }, () => "a fox, and books");
      const { conditional, unconditional } = await model.prompts.encode(prompts, { height, width });
      const parameters = model.initialParameters(1);
      assert.equal(
        adapterBytes,
        Object.values(parameters).reduce((sum, { data }) => sum + data.byteLength, 0),
      );
      const denoiser = await model.adapt(parameters);
      const shape = [images, channels, height, width];
      const x = float32(new Float32Array(sizeOf(shape)).fill(0.1), shape);
      const branches = [unconditional, conditional];
      await denoiser.predict({ x, timesteps: prompts.map(() => 500), branches });
      await model.decoder.vjp(x, await model.decoder.decode(x));
      const repeated = (value: typeof x) => concatBatch(Array.from({ length: k }, () => value));
      const rows = {
        x: repeated(x),
        timesteps: Array.from({ length: k * images }, () => 500),
        branches: branches.map((branch) =>
          Object.fromEntries(Object.entries(branch).map(([name, t]) => [name, repeated(t)]))
        ),
      };
      await denoiser.vjp(rows, [rows.x, rows.x], { input: false });
      const measured = await opened.peakMemory?.();
      if (measured === undefined) return;
      const ratio = measured / bytes;
      assert.ok(
        ratio <= 1 && ratio > 1 / MEMORY_FACTOR,
        `limit ${memoryLimit}: measured ${measured}, estimated ${bytes}: ${ratio}`,
      );
    } finally {
      await opened.release();
    }
  }
});

Deno.test("runs and operations are counted as a method makes them", async () => {
  const counted = async (fields: object) => {
    const config = await prepareRunConfig({ ...CONFIG, ...fields }, { root });
    const { phases, secondsPerIteration } = planRun(config, { pipeline, speed: SPEED });
    const of = (wanted: string) => {
      const phase = phases.find(({ name }) => name === wanted);
      assert.ok(phase);
      return phase;
    };
    return { of, secondsPerIteration };
  };
  const drtune = await counted({});
  // Sampling stops after step 1 to 4 of 20, each as likely: 20 - 2.5 + 1 predictions.
  assert.ok(Math.abs(drtune.of("sampling").runs - 18.5) < 0.3);
  assert.equal(drtune.of("decoder").runs, 1);
  assert.equal(drtune.of("U-Net gradient").runs, 1);
  const twice = await counted({ batch: { size: 4, accumulation: 2 } });
  assert.equal(twice.secondsPerIteration, 2 * drtune.secondsPerIteration);
  assert.equal(twice.of("decoder gradient").flops, 2 * drtune.of("decoder gradient").flops);
  // Every trained step's gradient goes back through the steps after it, one by one.
  const draft = await counted({ method: { name: "draft-k", k: 3 } });
  assert.deepEqual([draft.of("sampling").runs, draft.of("U-Net gradient").runs], [20, 3]);
  // Pictures are predicted and differentiated once, in one branch.
  const pretrain = { folder: "pictures", weight: 1 };
  const held = { ...await prepareRunConfig(CONFIG, { root }), pretrain };
  const { phases } = planRun(held, { pipeline, speed: SPEED });
  for (const name of ["sampling", "U-Net gradient"]) {
    assert.equal(phases.find((p) => p.name === name)?.runs, drtune.of(name).runs + 1);
  }
  const unguided = await counted({ guidance: { scale: 1 } });
  const share = unguided.of("sampling").flops / drtune.of("sampling").flops;
  assert.ok(share > 0.5 && share < 0.75, `${share}: what both branches share is computed once`);
});

Deno.test("operations are those that PyTorch counts", async () => {
  const config = await prepareRunConfig({ ...CONFIG, guidance: { scale: 1 } }, { root });
  const { phases } = planRun(config, { pipeline, speed: SPEED });
  const perRun = (wanted: string) => {
    const phase = phases.find(({ name }) => name === wanted);
    return (phase?.flops ?? NaN) / (phase?.runs ?? NaN);
  };
  for (const [name, flops] of Object.entries(TORCH_FLOPS)) {
    const ratio = perRun(name) / flops;
    assert.ok(ratio > 1 / FLOPS_FACTOR && ratio < FLOPS_FACTOR, `${name}: ${ratio}`);
  }
  // Two trained steps in one run. A gradient with frozen weights takes a product for each of the value's, and LoRA's.
  const gradient = perRun("U-Net gradient") / (2 * perRun("sampling"));
  assert.ok(gradient > 1.75 && gradient < 2.5, `${gradient}`);
});
