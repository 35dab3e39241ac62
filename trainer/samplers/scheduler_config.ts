import { z } from "zod";
import type { SchedulerFile } from "../../models/diffusers/mod.ts";
import { FieldError } from "../errors.ts";
import { parseConfig } from "../parse_config.ts";
import { REFUSED_SCHEDULERS, SCHEDULER_CLASSES } from "./scheduler_classes.ts";

const flag = (byDefault: boolean) => z.boolean().nullish().transform((v) => v ?? byDefault);
const level = () => z.number().gt(0).nullish().transform((v) => v ?? undefined);
/** A feature that no sampler here has: absent, null or false. */
const off = z.literal(false).nullish();
/** A solver of its own, or nothing. */
const idle = z.unknown().optional();

/**
 * Fields of diffusers' `scheduler_config.json` under their own names, with the defaults that diffusers gives them where
 * it makes one of the samplers here of a file of any class (`from_config`). What a model was trained on is taken from
 * every class: noise schedule, prediction type, spacing, offset. A field of a solver counts for the sampler that it
 * belongs to and is checked by `makeSampler`; all others have none of it.
 */
export const schedulerConfigSchema = z.strictObject({
  _class_name: z.enum(SCHEDULER_CLASSES).optional(),
  _diffusers_version: idle,

  num_train_timesteps: z.int().min(1).max(100_000).default(1000),
  beta_start: z.number().gt(0).lt(1).default(0.0001),
  beta_end: z.number().gt(0).lt(1).default(0.02),
  beta_schedule: z.enum(["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"])
    .default("linear"),
  trained_betas: z.array(z.number().gt(0).lt(1)).nullable().default(null),
  rescale_betas_zero_snr: flag(false),
  prediction_type: z.enum(["epsilon", "v_prediction", "sample"]).default("epsilon"),
  /** Default: "linspace" for DPM-Solver++, "leading" for the others. */
  timestep_spacing: z.enum(["linspace", "leading", "trailing"]).optional(),
  steps_offset: z.int().min(0).default(0),

  // DDIM, DDPM and LCM.
  clip_sample: flag(false),
  clip_sample_range: idle,
  // DDIM.
  set_alpha_to_one: flag(true),
  // DDPM; other classes have other values, or null.
  variance_type: z.string().nullish(),

  // DPM-Solver++, and under the same names other multistep solvers.
  algorithm_type: z.string().optional(),
  solver_type: z.string().optional(),
  solver_order: z.int().min(1).max(3).default(2),
  lower_order_final: flag(true),
  euler_at_final: flag(false),
  final_sigmas_type: z.enum(["zero", "sigma_min"]).default("zero"),
  use_karras_sigmas: flag(false),
  use_exponential_sigmas: flag(false),
  use_lu_lambdas: flag(false),
  use_beta_sigmas: flag(false),
  lambda_min_clipped: z.union(
    [z.number(), z.literal("-Infinity")],
    "expected a number or -Infinity",
  ).nullish()
    .transform((v) => typeof v === "number" ? v : -Infinity),
  /** Noise over signal at both ends of Karras' and exponential levels. Default: the schedule's. */
  sigma_min: level(),
  sigma_max: level(),

  // LCM.
  original_inference_steps: z.int().min(1).default(50),
  timestep_scaling: z.number().gt(0).default(10),

  // Latents are never thresholded, and nothing here is a flow.
  thresholding: off,
  dynamic_thresholding_ratio: idle,
  sample_max_value: idle,
  use_flow_sigmas: off,
  flow_shift: idle,
  use_dynamic_shifting: off,
  time_shift_type: idle,
  shift_terminal: z.null().optional(),
  timestep_type: z.literal("discrete").optional(),
  snr_shift_scale: z.literal(1).optional(),

  // Solvers that are not here: PNDM, Euler, UniPC, DPM-Solver SDE, SA, TCD, RePaint.
  skip_prk_steps: idle,
  interpolation_type: idle,
  predict_x0: idle,
  disable_corrector: idle,
  solver_p: idle,
  noise_sampler_seed: idle,
  predictor_order: idle,
  corrector_order: idle,
  tau_func: idle,
  eta: idle,

  // diffusers before 0.10: what they meant is said otherwise now, or nothing.
  predict_epsilon: z.literal(true).optional(),
  tensor_format: idle,
  timestep_values: idle,
}).superRefine((c, context) => {
  if (c.trained_betas !== null && c.trained_betas.length !== c.num_train_timesteps) {
    context.addIssue({
      code: "custom",
      path: ["trained_betas", "length"],
      input: c.trained_betas.length,
      message: `expected ${c.num_train_timesteps}, as num_train_timesteps says`,
    });
  }
});

/** A checked scheduler configuration. */
export type SchedulerConfig = z.output<typeof schedulerConfigSchema>;

/** Pipelines that put steps_offset 1 and clip_sample false in the place of what old scheduler files say. */
const CORRECTING = new Set([
  "StableDiffusionPipeline",
  "StableDiffusionImg2ImgPipeline",
  "StableDiffusionInpaintPipeline",
  "StableDiffusionPAGPipeline",
  "StableDiffusionPAGImg2ImgPipeline",
  "StableDiffusionPAGInpaintPipeline",
]);

/**
 * Checks what a pipeline's scheduler folder asks for, with the corrections that its pipeline's class makes. A field that
 * nobody knows is refused unless it is off (null, false or empty). Throws `FieldError` naming file, field, found and
 * expected.
 */
export function parseSchedulerConfig(
  { path, config, pipelineClass }: SchedulerFile,
): SchedulerConfig {
  const name = config._class_name;
  const reason = typeof name === "string" ? REFUSED_SCHEDULERS[name] : undefined;
  if (reason !== undefined) {
    throw new FieldError("_class_name", `is "${name}", ${reason}`, { file: path });
  }
  const known = Object.entries(config).filter(([field, value]) =>
    field in schedulerConfigSchema.shape || !isOff(value)
  );
  const parsed = parseConfig(schedulerConfigSchema, Object.fromEntries(known), { file: path });
  return pipelineClass !== undefined && CORRECTING.has(pipelineClass)
    ? { ...parsed, steps_offset: 1, clip_sample: false }
    : parsed;
}

function isOff(value: unknown): boolean {
  return value === null || value === false || (Array.isArray(value) && value.length === 0);
}
