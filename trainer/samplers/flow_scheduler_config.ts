import { z } from "zod";
import type { SchedulerConfig } from "./scheduler_config.ts";

/** Families of flow-matching transformers, each of whose pipelines lays out its noise levels in its own way. */
export const FLOW_FAMILIES = ["sd3", "flux", "flux2", "zimage"] as const;

export type FlowFamily = typeof FLOW_FAMILIES[number];

/**
 * What is laid out before shifting. "scheduler": the scheduler's own range, whose ends are shifted already and are
 * shifted again, as Stable Diffusion 3's pipeline has it; "linspace": from 1 to 1/T, as all others have it.
 */
export const SIGMA_RANGES = ["scheduler", "linspace"] as const;

export type SigmaRange = typeof SIGMA_RANGES[number];

const flag = z.boolean().nullish().transform((v) => v ?? false);

/**
 * Fields of diffusers' FlowMatchEulerDiscreteScheduler under their own names, with the defaults that diffusers gives
 * them. A field that is not listed is refused.
 */
export const flowSchedulerConfigSchema = z.strictObject({
  _class_name: z.literal("FlowMatchEulerDiscreteScheduler").default(
    "FlowMatchEulerDiscreteScheduler",
  ),
  _diffusers_version: z.unknown().optional(),
  num_train_timesteps: z.int().min(1).max(100_000).default(1000),
  /** Static shift; nothing is made of it with `use_dynamic_shifting`. */
  shift: z.number().gt(0).default(1),
  use_dynamic_shifting: flag,
  base_shift: z.number().nullish().transform((v) => v ?? 0.5),
  max_shift: z.number().nullish().transform((v) => v ?? 1.15),
  base_image_seq_len: z.int().min(1).default(256),
  max_image_seq_len: z.int().min(1).default(4096),
  /** Mochi's levels, which rise. No sampler is made of them: nothing of what trains holds there. */
  invert_sigmas: flag,
  shift_terminal: z.number().min(0).lt(1).nullish().transform((v) => v || null),
  use_karras_sigmas: flag,
  use_exponential_sigmas: flag,
  use_beta_sigmas: flag,
  time_shift_type: z.enum(["exponential", "linear"]).default("exponential"),
  /** Fresh noise in every step, onto the predicted clean sample. */
  stochastic_sampling: flag,
}).superRefine((c, context) => {
  const layouts = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"] as const;
  const [, second] = layouts.filter((name) => c[name]);
  if (second !== undefined) {
    context.addIssue({
      code: "custom",
      path: [second],
      input: true,
      message: "expected false with another layout of the noise levels",
    });
  }
  if (c.max_image_seq_len <= c.base_image_seq_len) {
    context.addIssue({
      code: "custom",
      path: ["max_image_seq_len"],
      input: c.max_image_seq_len,
      message: `expected more than base_image_seq_len ${c.base_image_seq_len}`,
    });
  }
});

/** A checked flow scheduler configuration. */
export type FlowSchedulerConfig = z.output<typeof flowSchedulerConfigSchema>;

/** A flow scheduler as its family's pipeline runs it for latents of one size. */
export interface FlowScheduler extends FlowSchedulerConfig {
  readonly family: FlowFamily;
  /** Image tokens of the transformer: a quarter of the latents' positions, FLUX.2's packed ones counted whole. */
  readonly tokens: number;
}

/** A model's noise schedule: that of a diffusion model by discrete betas, or of a flow-matching one. */
export type Scheduler = SchedulerConfig | FlowScheduler;

/** Whether a schedule is a flow-matching one. */
export function isFlow(scheduler: Scheduler): scheduler is FlowScheduler {
  return scheduler._class_name === "FlowMatchEulerDiscreteScheduler";
}
