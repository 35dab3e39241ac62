import assert from "node:assert/strict";
import { float32 } from "../../autodiff/mod.ts";
import type { Precision } from "../../compile/mod.ts";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { type Engine, openEngine } from "../../runtime/mod.ts";
import { relativeError, roundingEngine } from "../../tests/models/mod.ts";
import { type MethodOptions, resolveMethod, selectSteps } from "../methods/mod.ts";
import { randomStream } from "../random.ts";
import { makeSampler, parseSchedulerConfig } from "../samplers/mod.ts";
import { seededNoise, trainBatch } from "../batch/mod.ts";
import { mapParameters, type Parameters } from "../tensors.ts";
import { type MemoryLimits, PipelineModel } from "./mod.ts";

const T = 4;
const SIZE = { channels: 4, height: 8, width: 8 };
const PROMPTS = ["a red cat", "books"];

/** The gradient of one step of a method on the tiny pipeline, whose draws come out as high as they may. */
async function gradientOf(
  engine: Engine,
  method: MethodOptions,
  { most = T, limits, precision }: {
    readonly most?: number;
    readonly limits?: MemoryLimits;
    readonly precision?: Precision;
  } = {},
): Promise<Parameters> {
  const folder = new URL("../../tests/golden/tiny-sd", import.meta.url).pathname;
  const pipeline = await readPipeline(folder);
  const model = new PipelineModel(pipeline, engine, {
    lora: { rank: 2, alpha: 2 },
    precision,
    session: { intraOpNumThreads: 1 },
    limits,
  });
  const random = randomStream(5, "noise");
  const denoiser = await model.adapt(mapParameters(
    model.initialParameters(1),
    ({ shape, data }) => float32(random.normals(data.length).map((v) => 0.1 * v), shape),
  ));
  try {
    const images = PROMPTS.map((_, image) => ({ seed: 3, iteration: 1, image }));
    const { gradients } = await trainBatch({
      prompts: model.prompts,
      decoder: model.decoder,
      denoiser,
    }, {
      sampler: makeSampler({ kind: "ddpm", steps: T }, parseSchedulerConfig(pipeline.scheduler)),
      selection: selectSteps(resolveMethod(method, T), {
        T,
        random: {
          integer: (_, high) => Math.min(most, high),
          uniform: () => 0.5,
          normal: () => 0,
        },
      }),
      guidance: { scale: 3, gradient: "both" },
      prompts: PROMPTS,
      noise: seededNoise(images, SIZE),
      reward: {
        evaluate: (x) =>
          Promise.resolve({
            loss: 0,
            gradient: float32(x.data.map((p, i) => Math.sin(i) + p / 5), x.shape),
            rewards: {},
          }),
      },
    });
    return gradients;
  } finally {
    await denoiser.release();
    await model.dispose();
  }
}

/** Every tensor within `tolerance` of its own largest element. */
function assertSame(actual: Parameters, expected: Parameters, tolerance: number): void {
  assert.deepEqual(Object.keys(actual).sort(), Object.keys(expected).sort());
  for (const [name, { data }] of Object.entries(expected)) {
    const largest = data.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
    assert.ok(largest > 0, name);
    data.forEach((v, i) => {
      const error = Math.abs((actual[name]?.data[i] ?? NaN) - v);
      assert.ok(error <= tolerance * largest, `${name}[${i}] is ${error / largest} off`);
    });
  }
}

Deno.test("on a real pipeline: DRaFT-T is DRaFT-K with K = T, ReFL is DRTune with one step, K products are one batch", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const draftT = await gradientOf(engine, { name: "draft-t" });
    assertSame(await gradientOf(engine, { name: "draft-k", k: T }), draftT, 0);
    const refl = await gradientOf(engine, { name: "refl", m: 2 }, { most: 2 });
    assertSame(await gradientOf(engine, { name: "drtune", k: 1, m: 2 }, { most: 2 }), refl, 1e-5);
    const drtune: MethodOptions = { name: "drtune", k: 2, m: 1 };
    const together = await gradientOf(engine, drtune);
    // One row of one image in both branches of guidance at a time.
    const oneByOne = await gradientOf(engine, drtune, { limits: { products: 1, forward: 1 } });
    assertSame(oneByOne, together, 1e-5);
    assert.throws(() => assertSame(refl, together, 0.1), /off/);
  } finally {
    await engine.close();
  }
});

Deno.test("a step in float16 gives the gradient of one in float32, to the rounding of four predictions", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const drtune: MethodOptions = { name: "drtune", k: 2, m: 1 };
    const expected = await gradientOf(engine, drtune);
    const rounding = roundingEngine(engine);
    const actual = await gradientOf(rounding, drtune, { precision: "float16" });
    const error = relativeError(actual, expected);
    assert.ok(error >= 1e-4 && error <= 1e-2, `${error}`);
    assertSame(await gradientOf(rounding, drtune, { precision: "float16" }), actual, 0);
  } finally {
    await engine.close();
  }
});
