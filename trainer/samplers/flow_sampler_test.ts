import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { PUBLISHED_PIPELINES } from "../../models/published/mod.ts";
import { FieldError } from "../errors.ts";
import {
  closedForm,
  endLevel,
  FLOW_FAMILIES,
  flowSchedulerConfigSchema,
  flowSigmas,
  flux2Mu,
  isStochastic,
  linearMu,
  makeSampler,
  odePath,
  parseScheduler,
  SIGMA_RANGES,
} from "./mod.ts";

const read = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../testdata/${name}`, import.meta.url), "utf8"));
const numbers = z.array(z.number());
const file = (config: Readonly<Record<string, unknown>>) => ({
  className: "FlowMatchEulerDiscreteScheduler",
  path: "scheduler_config.json",
  config,
});
const flow = (
  config: Readonly<Record<string, unknown>>,
  tokens = 1024,
  family: typeof FLOW_FAMILIES[number] = "flux",
) => parseScheduler(file(config), { family, tokens });

/** The greatest difference, of timesteps in units of the whole range. */
function distance(actual: readonly number[], expected: readonly number[]): number {
  assert.equal(actual.length, expected.length);
  return Math.max(...actual.map((v, i) => Math.abs(v - (expected[i] ?? NaN))));
}

Deno.test("the golden schedules, to the last bit of float32", () => {
  const golden = z.array(z.object({
    name: z.string(),
    family: z.string(),
    config: flowSchedulerConfigSchema,
    sigmas_input: z.union([z.enum(SIGMA_RANGES), numbers]),
    T: z.number(),
    tokens: z.number().nullable(),
    mu: z.number().nullable(),
    sigma: numbers,
    timesteps: numbers,
  })).length(40).parse(read("flow_schedules.json"));
  for (const { name, config, sigmas_input: sigmas, T: steps, mu, ...expected } of golden) {
    const actual = flowSigmas(config, { steps, sigmas, mu: mu ?? undefined });
    const worst = Math.max(
      distance(actual.sigmas, expected.sigma),
      distance(actual.timesteps, expected.timesteps) / 1000,
    );
    // One rounding of float32 at 1 is 6e-8; other machines' powers may differ by one.
    assert.ok(worst < 1.3e-7, `${name}: ${worst}`);
    const { family, tokens } = expected;
    if (mu === null || tokens === null || config.max_shift === 1.16) continue;
    const formula = family === "flux2" || name.startsWith("klein")
      ? flux2Mu(tokens, steps)
      : linearMu(config, tokens);
    if (family !== "sd3") {
      assert.ok(Math.abs(formula - mu) < 1e-12, `${name}: mu ${formula}, ${mu}`);
    }
  }
});

Deno.test("FLUX.1 schnell's four levels are not shifted, whatever its file says of dynamic shifts", () => {
  const config = {
    ...{ base_image_seq_len: 256, max_image_seq_len: 4096, base_shift: 0.5, max_shift: 1.15 },
    ...{ num_train_timesteps: 1000, shift: 1.0, use_dynamic_shifting: false },
  };
  const published = PUBLISHED_PIPELINES["flux-schnell"]["scheduler/scheduler_config.json"];
  for (const  of of[config, published]) {
    const { steps } = makeSampler({ kind: "flow-euler", steps: 4 }, flow(of, 4096));
    assert.deepEqual(steps.map(({ timestep }) => timestep), [1000, 750, 500, 250]);
  }
});

Deno.test("levels of random configurations, and multistep trajectories, are diffusers'", () => {
  const sweep = z.array(z.object({
    kind: z.enum(["flow-euler", "dpmsolver++"]),
    family: z.enum(FLOW_FAMILIES),
    tokens: z.number(),
    T: z.number(),
    config: z.looseObject({}),
    range: z.enum(SIGMA_RANGES).nullable(),
    sigma: numbers,
    timesteps: numbers,
    x: numbers.optional(),
  })).length(58).parse(read("flow_sweep.json"));
  for (const { kind, family, tokens, T, config, range, sigma, timesteps, x: expected } of sweep) {
    const sampler = makeSampler(
      { kind, steps: T, sigmas: range ?? undefined },
      flow(config, tokens, family),
    );
    const what = JSON.stringify({ kind, family, tokens, T, config, range });
    const levels = [...sampler.steps.map((s) => s.sigma), endLevel(sampler).sigma];
    const worst = Math.max(
      distance(levels, sigma),
      distance(sampler.steps.map((s) => s.timestep), timesteps) / 1000,
    );
    assert.ok(worst < 1e-6, `${what}: ${worst}`);
    if (expected === undefined) continue;
    const xs = [0, 1].map((j) => {
      let [x, m] = [Math.sin(0.5 + 3 * j), 0];
      return sampler.steps.map(({ next, clean }, i) => {
        const o = Math.sin(1 + 2 * i + 3 * j);
        const y = next.x * x + next.output * o + next.previous * m;
        m = clean.x * x + clean.output * o;
        return x = y;
      });
    });
    const actual = expected.map((_, k) => xs[k % 2]?.[k >> 1] ?? NaN);
    // diffusers takes logarithms of float32 levels near 1.
    assert.ok(distance(actual, expected) < 2e-4, `${what}: ${distance(actual, expected)}`);
  }
});

Deno.test("Euler's closed form is the step sizes, and its last step the prediction of the clean sample", () => {
  const sampler = makeSampler({ kind: "flow-euler", steps: 9 }, flow({ shift: 3 }));
  const sigmas = [...sampler.steps.map((s) => s.sigma), 0];
  const h = sampler.steps.map((_, i) => (sigmas[i + 1] ?? NaN) - (sigmas[i] ?? NaN));
  assert.deepEqual(closedForm(sampler), h);
  assert.ok(Math.abs(h.reduce((a, b) => a + b) + 1) < 1e-12);
  const last = sampler.steps.at(-1);
  assert.deepEqual(last?.next, { ...last?.clean, previous: 0, noise: 0 });
  const { scale, time, rate } = odePath(sampler);
  assert.deepEqual(time, sigmas);
  assert.deepEqual(new Set(scale), new Set([1]));
  assert.deepEqual(rate[3], { x: 0, output: 1 });
});

Deno.test("Stable Diffusion 3 has the scheduler's own range unless a run says otherwise", () => {
  const at = (sigmas?: "linspace") =>
    makeSampler({ kind: "flow-euler", steps: 25, sigmas }, flow({ shift: 3 }, 1024, "sd3")).steps
      .at(-1)?.sigma ?? NaN;
  assert.ok(Math.abs(at() - 0.00893) < 1e-5);
  assert.ok(Math.abs(at("linspace") - 3 / 27) < 1e-6);
});

Deno.test("stochastic sampling noises the predicted clean sample anew", () => {
  const plain = makeSampler({ kind: "flow-euler", steps: 5 }, flow({ shift: 2 }));
  const sampler = makeSampler(
    { kind: "flow-euler", steps: 5 },
    flow({ shift: 2, stochastic_sampling: true }),
  );
  assert.ok(isStochastic(sampler) && !isStochastic(plain));
  const [a, b] = sampler.steps;
  assert.ok(a && b);
  assert.deepEqual(a.next, {
    x: 1 - b.sigma,
    output: -(1 - b.sigma) * a.sigma,
    previous: 0,
    noise: b.sigma,
  });
  assert.deepEqual(endLevel(sampler), { alpha: 1, sigma: 0 });
});

Deno.test("what a flow cannot be sampled with is refused by name", () => {
  const refuses = (make: () => unknown, field: string, says: RegExp) =>
    assert.throws(
      make,
      (e) => e instanceof FieldError && e.field === field && says.test(e.message),
    );
  const euler = { kind: "flow-euler", steps: 4 } as const;
  refuses(
    () => makeSampler(euler, flow({ invert_sigmas: true })),
    "invert_sigmas",
    /levels that rise/,
  );
  refuses(
    () => makeSampler({ kind: "ddim", steps: 4 }, flow({})),
    "sampler.kind",
    /"flow-euler" or/,
  );
  refuses(
    () => makeSampler({ kind: "dpmsolver++", steps: 4 }, flow({ use_beta_sigmas: true })),
    "sampler.kind",
    /use_beta_sigmas/,
  );
  const discrete = parseScheduler(file({}));
  refuses(() => makeSampler(euler, discrete), "sampler.kind", /the model is no flow/);
  refuses(
    () => makeSampler({ kind: "ddim", steps: 4, sigmas: "linspace" }, discrete),
    "sampler.sigmas",
    /no flow/,
  );
  refuses(
    () => flow({ use_karras_sigmas: true, use_beta_sigmas: true }),
    "use_beta_sigmas",
    /another layout/,
  );
  refuses(() => flow({ shift: 0 }), "shift", /./);
  refuses(() => flow({ upscale_mode: "bilinear" }), "upscale_mode", /./);
});
