import { z } from "zod";
import type { SchedulerFile } from "../../models/diffusers/mod.ts";
import { parseConfig } from "../parse_config.ts";

const flag = (byDefault: boolean) => z.boolean().default(byDefault);
/** A feature the samplers here do not have: absent, null or false. */
const off = z.literal(false).nullish();
/** Read by a feature that is off. */
const idle = z.unknown().optional();

/**
 * Fields of diffusers' `scheduler_config.json` under their own names, with the defaults that diffusers gives them.
 * Any sampler here can run a model whose schedule was written for any of these classes. A field that is not listed, or
 * a value that would change the numbers and is not implemented, is refused.
 */
export const schedulerConfigSchema = z.strictObject({
  _class_name: z.enum([
    "DDPMScheduler",
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "PNDMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
  ]).optional(),
  _diffusers_version: idle,

  num_train_timesteps: z.int().min(1).max(100_000).default(1000),
  beta_start: z.number().gt(0).lt(1).default(0.0001),
  beta_end: z.number().gt(0).lt(1).default(0.02),
  beta_schedule: z.enum(["linear", "scaled_linear", "squaredcos_cap_v2"]).default("linear"),
  trained_betas: z.array(z.number().gt(0).lt(1)).nullable().default(null),
  rescale_betas_zero_snr: flag(false),
  prediction_type: z.enum(["epsilon", "v_prediction", "sample"]).default("epsilon"),
  /** Default: "linspace" for DPM-Solver++, "leading" for the others. */
  timestep_spacing: z.enum(["linspace", "leading", "trailing"]).optional(),
  steps_offset: z.int().min(0).default(0),

  // DDIM.
  set_alpha_to_one: flag(true),
  // DDPM.
  variance_type: z.literal("fixed_small").nullish(),
  // DPM-Solver++.
  algorithm_type: z.literal("dpmsolver++").optional(),
  solver_type: z.literal("midpoint").optional(),
  solver_order: z.literal([1, 2]).default(2),
  lower_order_final: flag(true),
  euler_at_final: flag(false),
  final_sigmas_type: z.enum(["zero", "sigma_min"]).default("zero"),
  use_karras_sigmas: z.boolean().nullish().transform((v) => v ?? false),
  lambda_min_clipped: z.literal("-Infinity").optional(),
  sigma_min: z.null().optional(),
  sigma_max: z.null().optional(),

  // Latents are never clipped.
  clip_sample: off,
  clip_sample_range: idle,
  thresholding: off,
  dynamic_thresholding_ratio: idle,
  sample_max_value: idle,
  use_exponential_sigmas: off,
  use_beta_sigmas: off,
  use_lu_lambdas: off,
  use_flow_sigmas: off,
  use_dynamic_shifting: off,
  flow_shift: idle,
  time_shift_type: idle,

  // PNDM's and Euler's own.
  skip_prk_steps: idle,
  interpolation_type: idle,
  timestep_type: z.literal("discrete").optional(),
}).superRefine((c, context) => {
  if (c.trained_betas !== null && c.trained_betas.length !== c.num_train_timesteps) {
    context.addIssue({
      code: "custom",
      path: ["trained_betas", "length"],
      input: c.trained_betas.length,
      message: `expected ${c.num_train_timesteps}, as num_train_timesteps says`,
    });
  }
  if (c.rescale_betas_zero_snr && c.prediction_type === "epsilon") {
    context.addIssue({
      code: "custom",
      path: ["rescale_betas_zero_snr"],
      input: true,
      message: "expected false with prediction_type epsilon, which says nothing where all is noise",
    });
  }
});

/** A checked scheduler configuration. */
export type SchedulerConfig = z.output<typeof schedulerConfigSchema>;

/** Checks what a pipeline's scheduler folder asks for. Throws `FieldError` naming file, field, found and expected. */
export function parseSchedulerConfig({ path, config }: SchedulerFile): SchedulerConfig {
  return parseConfig(schedulerConfigSchema, config, { file: path });
}
