import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { float32 } from "../../autodiff/mod.ts";
import { parseConfig } from "../parse_config.ts";
import { makeSampler, schedulerConfigSchema } from "../samplers/mod.ts";
import type { Float32Tensor, Parameters } from "../tensors.ts";
import { quadraticReward } from "../testing/dual.ts";
import { FakeNetworks } from "../testing/fake_networks.ts";
import { type Drift, driftPenalty, gated, GuidedDenoiser, seededNoise, trainBatch } from "./mod.ts";

const rows = z.array(z.array(z.number()));
const { norm: cases } = z.object({
  norm: z.array(z.object({ output: rows, frozen: rows, value: z.number(), gradient: rows })),
}).parse(
  JSON.parse(readFileSync(new URL("../testdata/counter_measures.json", import.meta.url), "utf8")),
);
const scheduler = parseConfig(schedulerConfigSchema, { beta_schedule: "scaled_linear" });
const sampler = makeSampler({ kind: "ddpm", steps: 6 }, scheduler);

Deno.test("the hinge on the norm of predictions is PyTorch's, value and gradient", () => {
  const [step] = sampler.steps;
  assert.ok(step);
  for (const { output, frozen, value, gradient } of cases) {
    const found = driftPenalty("norm", {
      step,
      output: output.flat(),
      frozen: frozen.flat(),
      factors: output.map(() => 1),
    });
    assert.ok(Math.abs(found.mean - value) < 1e-13);
    gradient.flat().forEach((g, i) => assert.ok(Math.abs(g - (found.gradient[i] ?? NaN)) < 1e-13));
    assert.ok(found.gradient.some((g) => g !== 0) && found.gradient.some((g) => g === 0));
  }
});

Deno.test("images in doubt are penalised, most in doubt first, and none that is in no doubt", () => {
  assert.deepEqual(gated([0.2, -0.5, 0.7, 0.1], 0.5), [1, 0, 1, 0]);
  assert.deepEqual(gated([0.2, -0.5, 0.7, 0.1], 0.1), [0, 0, 1, 0]);
  assert.deepEqual(gated([0, -0.5, 0, 0.1], 1), [0, 0, 0, 1]);
  assert.deepEqual(gated([0, 0], 1), [0, 0]);
});

const PROMPTS = ["a fox", "books!!!"];
const noise = seededNoise(
  PROMPTS.map((_, image) => ({ seed: 1, iteration: 3, image })),
  { channels: 1, height: 2, width: 2 },
);
const guidance = { scale: 3, gradient: "both" } as const;
/** Its predictions are smaller than those of `FakeNetworks` as it comes. */
const frozen = new FakeNetworks();
frozen.parameters = { a: float32([0.1]), w: float32([0.4, -0.2]) };
const doubt = [-0.5, 0.5];
const reward = {
  evaluate: async (images: Float32Tensor) => ({
    ...await quadraticReward.evaluate(images),
    doubt,
  }),
};

for (const kind of ["l2", "norm"] as const) {
  for (const gate of [undefined, 0.5]) {
    for (const inputStopGradient of [true, false]) {
      Deno.test(`a step adds the gradient of the penalty "${kind}", gate ${gate}, stop ${inputStopGradient}`, async () => {
        const selection = { trainSteps: [2, 4, 5], tMin: 2, redraws: 0, inputStopGradient };
        const weight = 2;
        const seen = new Map<string, Float32Tensor>();
        const step = (drift?: Drift) =>
          trainBatch(new FakeNetworks(), {
            ...{ sampler, selection, guidance, prompts: PROMPTS, noise, reward, drift },
            probe: (name, tensor) => seen.set(name, tensor),
          });
        const plain = await step();
        const penalised = await step({ kind, weight, gate, frozen: frozen.denoiser });
        /** The penalty of other parameters where the step's inputs stood. */
        const penalty = async (parameters: Parameters) => {
          const networks = new FakeNetworks();
          networks.parameters = parameters;
          const conditioning = { ...await networks.prompts.encode(PROMPTS), guidance };
          const own = new GuidedDenoiser(networks.denoiser, conditioning);
          const other = new GuidedDenoiser(frozen.denoiser, conditioning);
          let sum = 0;
          for (const t of selection.trainSteps) {
            const [x, at] = [seen.get(`x.${6 - t}`), sampler.steps[6 - t]];
            assert.ok(x && at);
            const outputs = await own.predict(x, at.timestep);
            const others = await other.predict(x, at.timestep);
            for (const image of [0, 1]) {
              if (gate !== undefined && image === 0) continue;
              const [o, o0] = [outputs, others].map((v) => v.slice(4 * image, 4 * image + 4));
              assert.ok(o && o0);
              const rms = (v: Float64Array) => Math.sqrt(v.reduce((a, b) => a + b * b, 0) / 4);
              const squares = o.reduce((a, v, i) => a + (v - (o0[i] ?? NaN)) ** 2, 0) / 4;
              sum += (kind === "norm"
                ? Math.max(0, rms(o) - rms(o0)) ** 2
                : at.eps.output ** 2 * squares) / 2 / selection.trainSteps.length;
            }
          }
          return sum;
        };
        const { parameters } = new FakeNetworks();
        const value = await penalty(parameters);
        assert.ok(value > 1e-3, String(value));
        assert.ok(Math.abs((penalised.drift ?? NaN) - value) < 1e-6 * value);
        for (const [name, { data }] of Object.entries(parameters)) {
          for (const i of data.keys()) {
            const shifted = (by: number) => ({
              ...parameters,
              [name]: float32(data.map((v, j) => j === i ? v + by : v)),
            });
            const h = 2 ** -7;
            const slope = (await penalty(shifted(h)) - await penalty(shifted(-h))) / (2 * h);
            const added = (penalised.gradients[name]?.data[i] ?? NaN) -
              (plain.gradients[name]?.data[i] ?? NaN);
            // Central differences are off by h² of the third derivative.
            assert.ok(
              Math.abs(added - weight * slope) < 2e-3,
              `${name} ${added} ${weight * slope}`,
            );
          }
        }
      });
    }
  }
}
