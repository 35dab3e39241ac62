import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { z } from "zod";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { FieldError } from "../errors.ts";
import { parseConfig } from "../parse_config.ts";
import {
  closedForm,
  DISCRETE_SAMPLER_KINDS,
  makeSampler,
  parseSchedulerConfig,
  type Sampler,
  type SchedulerConfig,
  schedulerConfigSchema,
  schedulerRemarks,
  stopAt,
  timesteps,
} from "./mod.ts";

const read = (path: string) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
const config = (fields: object) => parseConfig(schedulerConfigSchema, fields);
const SD = {
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  timestep_spacing: "leading",
  steps_offset: 1,
};

const kinds = z.enum(DISCRETE_SAMPLER_KINDS);
const peer = z.object({
  trajectories: z.array(z.object({
    kind: kinds,
    steps: z.number(),
    eta: z.number(),
    config: schedulerConfigSchema,
    timesteps: z.array(z.number()),
    x: z.array(z.number()),
  })),
  timesteps: z.array(
    z.tuple([kinds, z.enum(["linspace", "leading", "trailing"]), z.number(), z.array(z.number())]),
  ),
}).parse(read("../testdata/samplers.json"));

/** Relative to the largest expected number. */
function distance(actual: readonly number[], expected: readonly number[]): number {
  assert.equal(actual.length, expected.length);
  const largest = Math.max(...expected.map(Math.abs));
  return Math.max(...actual.map((v, i) => Math.abs(v - (expected[i] ?? NaN)))) / largest;
}

/** Latents of every step where outputs and noise are sines. */
function waves(sampler: Sampler): number[] {
  const wave = (a: number, i: number, j: number) => Math.sin(a + 2 * i + 3 * j);
  const xs = [0, 1].map((j) => {
    let [x, m] = [wave(0.5, 0, j), 0];
    return sampler.steps.map(({ next, clean }, i) => {
      const o = wave(1, i, j);
      const y = next.x * x + next.output * o + next.previous * m + next.noise * wave(2, i, j);
      m = clean.x * x + clean.output * o;
      return x = y;
    });
  });
  return Array.from({ length: 2 * sampler.steps.length }, (_, k) => xs[k % 2]?.[k >> 1] ?? NaN);
}

Deno.test("trajectories are those of diffusers' schedulers run in float64", () => {
  for (const { kind, steps, eta, config, timesteps, x: expected } of peer.trajectories) {
    const sampler = makeSampler({ kind, steps, eta }, config);
    const name = JSON.stringify({ kind, steps, eta, config });
    assert.deepEqual(sampler.steps.map((s) => s.timestep), timesteps, name);
    const actual = waves(sampler);
    assert.ok(distance(actual, expected) < 1e-11, `${name}: ${distance(actual, expected)}`);
  }
});

Deno.test("timesteps are diffusers' for every spacing and many lengths", () => {
  for (const [kind, timestep_spacing, steps, expected] of peer.timesteps) {
    assert.deepEqual(timesteps(kind, steps, config({ timestep_spacing })), expected);
  }
});

const goldenCase = z.object({
  T: z.number(),
  scheduler: z.object({ kind: z.string(), eta: z.number(), config: schedulerConfigSchema }),
  early_stop_index: z.number().nullable(),
  coefficients: z.record(z.string(), z.union([z.array(z.number()), z.number()])),
  timesteps: z.array(z.number()),
  checks: z.object({ kappa: z.array(z.number()).optional() }),
});

Deno.test("coefficients and closed forms are those of the golden cases", () => {
  const root = new URL("../../tests/golden/cases/", import.meta.url);
  let closedForms = 0;
  for (const name of readdirSync(root)) {
    const golden = goldenCase.parse(read(new URL(`${name}/case.json`, root).href));
    const { kind: k, eta, config } = golden.scheduler;
    const kind = kinds.parse(k === "dpmpp2m" ? "dpmsolver++" : k);
    const sampler = makeSampler({ kind, steps: golden.T, eta }, config);
    assert.deepEqual(sampler.steps.map((s) => s.timestep), golden.timesteps);
    const table = (key: string) => z.array(z.number()).parse(golden.coefficients[key]);
    const same = (actual: readonly number[], expected: readonly number[], what: string) =>
      assert.ok(
        distance(actual, expected) < 1e-12,
        `${name} ${what}: ${distance(actual, expected)}`,
      );
    const [al, sg] = [table("al"), table("sg")];
    same(sampler.steps.map((s) => s.alpha), al, "al");
    same(sampler.steps.map((s) => s.sigma), sg, "sg");
    const next = (key: "x" | "output" | "previous" | "noise") =>
      sampler.steps.map((s) => s.next[key]);
    if (kind === "dpmsolver++") {
      const [A, P, Q] = [table("A"), table("P"), table("Q")];
      const at = (a: number[], i: number) => a[i] ?? NaN;
      same(next("x"), A.map((a, i) => a + at(P, i) / at(al, i)), "A + P/al");
      same(next("output"), P.map((p, i) => -p * at(sg, i) / at(al, i)), "-P sg/al");
      if (Q.some((q) => q !== 0)) same(next("previous"), Q, "Q");
    } else {
      same(next("x"), table("a"), "a");
      same(next("output"), table("b"), "b");
      const c = table("c");
      if (c.some((v) => v !== 0)) same(next("noise"), c, "c");
      else assert.ok(next("noise").every((v) => v === 0));
    }
    if (golden.checks.kappa !== undefined) {
      closedForms++;
      const stop = golden.early_stop_index;
      const kappa = closedForm(stop === null ? sampler : stopAt(sampler, stop));
      assert.ok(golden.checks.kappa.slice(kappa.length).every((v) => v === 0));
      same(kappa, golden.checks.kappa.slice(0, kappa.length), "kappa");
    }
  }
  assert.ok(closedForms > 10, `${closedForms} cases with a closed form`);
});

Deno.test("the closed form is the derivative of a run with every output fixed", () => {
  for (const prediction_type of ["epsilon", "v_prediction", "sample"]) {
    for (const kind of DISCRETE_SAMPLER_KINDS) {
      const sampler = makeSampler({ kind, steps: 7 }, config({ ...SD, prediction_type }));
      for (const stop of [undefined, 0, 3, 6]) {
        const cut = stop === undefined ? sampler : stopAt(sampler, stop);
        const run = (o: readonly number[]) => {
          let [x, m] = [0.3, 0];
          for (const [i, { alpha, sigma, next, clean }] of sampler.steps.entries()) {
            const prediction = clean.x * x + clean.output * (o[i] ?? 0);
            if (i === stop) return prediction;
            assert.ok(Math.abs(alpha ** 2 + sigma ** 2 - 1) < 1e-12);
            x = next.x * x + next.output * (o[i] ?? 0) + next.previous * m;
            m = prediction;
          }
          return x;
        };
        // The run is linear in the outputs, so a unit difference is the derivative.
        const expected = cut.steps.map((_, i) =>
          run(sampler.steps.map((_, j) => i === j ? 1 : 0)) - run([])
        );
        assert.ok(distance(closedForm(cut), expected) < 1e-12, `${kind} ${stop}`);
      }
    }
  }
});

Deno.test("DDIM with eta 1 and set_alpha_to_one is DDPM", () => {
  const all = config({ ...SD, steps_offset: 0 });
  const ddpm = makeSampler({ kind: "ddpm", steps: 10 }, all);
  const ddim = makeSampler({ kind: "ddim", steps: 10, eta: 1 }, all);
  for (const key of ["x", "output"] as const) {
    const table = (s: typeof ddpm) => s.steps.map((step) => step.next[key]);
    assert.ok(distance(table(ddim), table(ddpm)) < 1e-10);
  }
});

Deno.test("real scheduler folders are read", async () => {
  for (const name of ["tiny-sd", "tiny-sdxl"]) {
    const folder = new URL(`../../tests/golden/${name}`, import.meta.url).pathname;
    const { scheduler } = await readPipeline(folder);
    assert.equal(parseSchedulerConfig(scheduler).beta_end, 0.012);
  }
  // As in the published SD 1.5 and SDXL folders.
  const pndm: SchedulerConfig = config({
    _class_name: "PNDMScheduler",
    _diffusers_version: "0.6.0",
    ...SD,
    num_train_timesteps: 1000,
    set_alpha_to_one: false,
    skip_prk_steps: true,
    trained_betas: null,
    clip_sample: false,
  });
  assert.equal(pndm.set_alpha_to_one, false);
  const euler = config({ ...SD, interpolation_type: "linear", use_karras_sigmas: false });
  assert.equal(euler.use_karras_sigmas, false);
});

const peerFiles = z.array(z.object({
  file: z.record(z.string(), z.unknown()),
  kind: kinds,
  steps: z.number(),
  eta: z.number(),
  /** Null where diffusers fails or finds no finite number. */
  timesteps: z.array(z.number()).nullable(),
  x: z.array(z.number()).nullable(),
})).parse(read("../testdata/scheduler_files.json"));

Deno.test("scheduler files of all classes are read as diffusers' from_config reads them", () => {
  const classes = new Set<unknown>();
  for (const { file, kind, steps, eta, timesteps, x: expected } of peerFiles) {
    if (timesteps === null || expected === null) continue;
    const name = JSON.stringify({ kind, steps, eta, file });
    const sampler = makeSampler({ kind, steps, eta }, config(file));
    assert.deepEqual(sampler.steps.map((s) => s.timestep), timesteps, name);
    // diffusers runs in float32 here.
    const actual = waves(sampler);
    assert.ok(distance(actual, expected) < 5e-4, `${name}: ${distance(actual, expected)}`);
    classes.add(file._class_name);
  }
  assert.ok(classes.size >= 14, `${classes.size} classes`);
});

Deno.test("what is not implemented is refused by name", () => {
  const refused = (fields: object, message: RegExp) =>
    assert.throws(() => config(fields), (e) => e instanceof FieldError && message.test(e.message));
  refused(
    { beta_schedule: "cosine" },
    /^Field beta_schedule is "cosine", expected one of linear/,
  );
  refused({ thresholding: true }, /^Field thresholding is true, expected false/);
  refused({ new_feature: 1 }, /^Field new_feature is not known here/);
  refused({ solver_order: 4 }, /^Field solver_order is 4/);
  refused({ trained_betas: [0.1] }, /^Field trained_betas\.length is 1, expected 1000/);
  const make = (o: Parameters<typeof makeSampler>[0], message: RegExp, fields: object = SD) =>
    assert.throws(() => makeSampler(o, config(fields)), message);
  make({ kind: "ddpm", steps: 0 }, /^FieldError: Field sampler\.steps is 0/);
  make({ kind: "ddpm", steps: 1001 }, /sampler\.steps is 1001, expected 1 to 1000/);
  make(
    { kind: "ddpm", steps: 1000 },
    /steps is 1000, expected 1 to 999 \(steps_offset 1 leads to timestep 1000 of 0 to 999\)$/,
  );
  assert.equal(makeSampler({ kind: "ddpm", steps: 999 }, config(SD)).steps[0]?.timestep, 999);
  make({ kind: "dpmsolver++", steps: 1000 }, /sampler\.steps is 1000, expected 1 to 999/);
  make({ kind: "dpmsolver++", steps: 999 }, /is 999, expected fewer: step 2 has the noise of/);
  make({ kind: "ddpm", steps: 5, eta: 0.5 }, /sampler\.eta is 0\.5, expected 0 with sampler\.kind/);
  make(
    { kind: "ddpm", steps: 5, karrasSigmas: true },
    /sampler\.karrasSigmas is true, expected false with sampler\.kind ddpm/,
  );
  make({ kind: "ddim", steps: 5, eta: 2 }, /sampler\.eta is 2, expected 0 to 1/);
  make(
    { kind: "dpmsolver++", steps: 5, karrasSigmas: true },
    /use_exponential_sigmas is true, expected false with use_karras_sigmas true/,
    { ...SD, use_exponential_sigmas: true },
  );
  const file = { path: "/model/scheduler_config.json", className: "", pipelineClass: "" };
  const read = (config: Record<string, unknown>) => () => parseSchedulerConfig({ ...file, config });
  assert.throws(
    read({ beta_end: 2 }),
    /^FieldError: Field beta_end of \/model\/scheduler_config\.json is 2, .*expected/,
  );
  assert.throws(
    read({ _class_name: "EDMEulerScheduler" }),
    /Field _class_name of .* is "EDMEulerScheduler", whose noise levels are EDM's/,
  );
  assert.throws(
    read({ _class_name: "MyScheduler" }),
    /_class_name of .* is "MyScheduler", expected/,
  );
  // What nobody knows is refused, unless it is off.
  assert.throws(read({ unheard_of: 0.5 }), /Field unheard_of of .* is not known here/);
  assert.equal(read({ unheard_of: null, noted: false, none: [] })().beta_end, 0.02);
});

Deno.test("zero terminal SNR with epsilon is refused only where a step is all noise", () => {
  const zero = { ...SD, rescale_betas_zero_snr: true };
  for (const kind of ["ddpm", "ddim"] as const) {
    assert.equal(makeSampler({ kind, steps: 10 }, config(zero)).steps[0]?.timestep, 901);
    assert.throws(
      () => makeSampler({ kind, steps: 10 }, config({ ...zero, timestep_spacing: "trailing" })),
      /rescale_betas_zero_snr is true with prediction_type epsilon.* leaves out timestep 999$/,
    );
  }
  const steps = { kind: "dpmsolver++", steps: 10 } as const;
  makeSampler(steps, config({ ...zero, timestep_spacing: "trailing" }));
});

Deno.test("a pipeline of Stable Diffusion 1 and 2 corrects old scheduler files, and says so", () => {
  const path = "/model/scheduler_config.json";
  const old = { ...SD, steps_offset: 0, clip_sample: true };
  const sd = { path, className: "", pipelineClass: "StableDiffusionPipeline", config: old };
  assert.equal(parseSchedulerConfig(sd).steps_offset, 1);
  assert.equal(parseSchedulerConfig(sd).clip_sample, false);
  assert.deepEqual(schedulerRemarks(sd, "ddim"), [
    `${path} has steps_offset 0; 1 is taken, as StableDiffusionPipeline does in diffusers`,
    `${path} has clip_sample true; false is taken, as StableDiffusionPipeline does in diffusers`,
  ]);
  assert.deepEqual(schedulerRemarks({ ...sd, config: SD }, "ddim"), []);
  assert.deepEqual(
    schedulerRemarks({ ...sd, config: { ...old, timestep_spacing: "linspace" } }, "dpmsolver++"),
    [],
  );
  const xl = { ...sd, pipelineClass: "StableDiffusionXLPipeline" };
  assert.equal(parseSchedulerConfig(xl).steps_offset, 0);
  assert.deepEqual(schedulerRemarks(xl, "ddim"), []);
  assert.throws(
    () => makeSampler({ kind: "ddim", steps: 5 }, parseSchedulerConfig(xl)),
    /clip_sample is true, expected false with sampler\.kind ddim/,
  );
  makeSampler({ kind: "dpmsolver++", steps: 5 }, parseSchedulerConfig(xl));
  const solver = {
    ...SD,
    _class_name: "DPMSolverMultistepScheduler",
    algorithm_type: "sde-dpmsolver++",
    solver_order: 3,
  };
  assert.deepEqual(schedulerRemarks({ ...xl, config: solver }, "dpmsolver++"), [
    `${path} has algorithm_type sde-dpmsolver++; the sampler is dpmsolver++, without noise`,
    `${path} has solver_order 3; the sampler dpmsolver++ is of order 2`,
  ]);
  assert.deepEqual(schedulerRemarks({ ...xl, config: solver }, "ddpm"), []);
});

/** A value of each field that is refused, by the file or by the sampler whose field it is. */
const REFUSED = {
  _class_name: "IPNDMScheduler",
  num_train_timesteps: 0,
  beta_start: 0,
  beta_end: 1,
  beta_schedule: "cosine",
  trained_betas: [0.1],
  rescale_betas_zero_snr: 1,
  prediction_type: "flow_prediction",
  timestep_spacing: "karras",
  steps_offset: -1,
  set_alpha_to_one: 1,
  variance_type: "learned_range",
  algorithm_type: 1,
  solver_type: 1,
  solver_order: 0,
  lower_order_final: "no",
  euler_at_final: 1,
  final_sigmas_type: "denoise_to_zero",
  use_karras_sigmas: "yes",
  lambda_min_clipped: "low",
  sigma_min: 0,
  sigma_max: "80",
  clip_sample: true,
  thresholding: true,
  use_exponential_sigmas: 1,
  use_beta_sigmas: true,
  use_lu_lambdas: 1,
  use_flow_sigmas: true,
  use_dynamic_shifting: true,
  timestep_type: "continuous",
  shift_terminal: 0.1,
  snr_shift_scale: 3,
  original_inference_steps: 0,
  timestep_scaling: "10",
  predict_epsilon: false,
};
/** Read by features that are off, and those of other classes that change nothing here. */
const IDLE = [
  "_diffusers_version",
  "clip_sample_range",
  "dynamic_thresholding_ratio",
  "sample_max_value",
  "flow_shift",
  "time_shift_type",
  "skip_prk_steps",
  "interpolation_type",
  "predict_x0",
  "disable_corrector",
  "solver_p",
  "noise_sampler_seed",
  "predictor_order",
  "corrector_order",
  "tau_func",
  "eta",
  "tensor_format",
  "timestep_values",
];

Deno.test("every field is checked: a value that means something else is refused by name", () => {
  const fields = Object.keys(schedulerConfigSchema.shape);
  assert.deepEqual([...Object.keys(REFUSED), ...IDLE].sort(), fields.sort());
  for (const [field, value] of Object.entries(REFUSED)) {
    assert.throws(
      () => {
        const parsed = config({ [field]: value });
        for (const kind of DISCRETE_SAMPLER_KINDS) makeSampler({ kind, steps: 5 }, parsed);
      },
      (e) => e instanceof FieldError && e.field.startsWith(field) && e.message.includes("expected"),
      field,
    );
  }
});

Deno.test("no accepted value is ignored: each changes the coefficients of the samplers it is for", () => {
  const table = (kind: typeof DISCRETE_SAMPLER_KINDS[number], fields: object) =>
    JSON.stringify(makeSampler({ kind, steps: 8, eta: kind === "ddim" ? 0.5 : 0 }, config(fields)));
  const everywhere = [
    { num_train_timesteps: 900 },
    { beta_start: 0.001 },
    { beta_end: 0.013 },
    { beta_schedule: "linear" },
    { beta_schedule: "squaredcos_cap_v2" },
    { beta_schedule: "sigmoid" },
    { beta_schedule: "laplace" },
    { trained_betas: Array.from({ length: 1000 }, (_, i) => 1e-5 * (i + 1)) },
    { prediction_type: "v_prediction" },
    { prediction_type: "sample" },
    { prediction_type: "v_prediction", rescale_betas_zero_snr: true },
  ];
  const spacing = [
    { timestep_spacing: "linspace" },
    { timestep_spacing: "trailing" },
    { steps_offset: 2 },
  ];
  const consistency = [{ original_inference_steps: 40 }, { timestep_scaling: 1 }];
  const multistep = [
    { use_karras_sigmas: true },
    { use_karras_sigmas: true, sigma_min: 0.05 },
    { use_karras_sigmas: true, sigma_max: 11 },
    { use_exponential_sigmas: true },
    { use_lu_lambdas: true },
    { lambda_min_clipped: -1 },
    { solver_type: "heun" },
    { solver_order: 1 },
    { final_sigmas_type: "sigma_min" },
    { final_sigmas_type: "sigma_min", lower_order_final: false },
    { final_sigmas_type: "sigma_min", lower_order_final: false, euler_at_final: true },
  ];
  for (const kind of DISCRETE_SAMPLER_KINDS) {
    const changes = [
      ...everywhere,
      ...kind === "lcm" ? consistency : spacing,
      ...kind === "dpmsolver++" ? multistep : [],
      ...kind === "ddim" ? [{ set_alpha_to_one: false }] : [],
      ...kind === "ddpm" ? [{ variance_type: "fixed_large" }] : [],
    ];
    const tables = changes.map((fields) => table(kind, { ...SD, ...fields }));
    tables.push(table(kind, SD));
    tables.forEach((t, i) => {
      const same = tables.findIndex((other, j) => j < i && other === t);
      // euler_at_final and lower_order_final both end with a step of first order; Lu's levels are the exponential ones.
      const isKnown = kind === "dpmsolver++" && (i === changes.length - 1 || isLu(changes[i]));
      assert.ok(same < 0 || isKnown, `${kind} ${JSON.stringify(changes[i])} is ${same}`);
    });
  }
});

const isLu = (fields: object | undefined) => fields !== undefined && "use_lu_lambdas" in fields;
