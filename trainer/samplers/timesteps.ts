import { FieldError } from "../errors.ts";
import { linspace, roundHalfEven } from "./_linspace.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";

/**
 * The samplers of models with discrete betas. "dpmsolver++" is the multistep one of second order (2M), "lcm" that of latent
 * consistency models.
 */
export const DISCRETE_SAMPLER_KINDS = ["ddpm", "ddim", "dpmsolver++", "lcm"] as const;

export type DiscreteSamplerKind = typeof DISCRETE_SAMPLER_KINDS[number];

/** All samplers. Flow-matching models have "flow-euler" and "dpmsolver++". */
export const SAMPLER_KINDS = [...DISCRETE_SAMPLER_KINDS, "flow-euler"] as const;

export type SamplerKind = typeof SAMPLER_KINDS[number];

/** What of a configuration says where timesteps lie. */
export interface TimestepsConfig extends
  Pick<
    SchedulerConfig,
    "num_train_timesteps" | "timestep_spacing" | "steps_offset" | "original_inference_steps"
  > {
  /** How many of the noisiest timesteps are left out, for DPM-Solver++. Default 0. */
  readonly clipped?: number;
}

/**
 * The training timesteps of `steps` sampling steps, noisiest first, as diffusers' scheduler of that kind has them.
 * Throws `FieldError` where there are not as many, or they would leave the schedule.
 */
export function timesteps(
  kind: DiscreteSamplerKind,
  steps: number,
  config: TimestepsConfig,
): number[] {
  if (kind === "lcm") return consistencyTimesteps(steps, config);
  const n = config.num_train_timesteps;
  const multistep = kind === "dpmsolver++";
  // diffusers lays out one step more for the multistep solver, and drops the last.
  const spacing = config.timestep_spacing ?? (multistep ? "linspace" : "leading");
  const points = multistep && spacing !== "trailing" ? steps + 1 : steps;
  const last = n - (config.clipped ?? 0);
  const tooMany = (most: number, why: string) =>
    new FieldError("sampler.steps", `is ${steps}, expected 1 to ${most} (${why})`);
  if (points > last) {
    const why = last < n ? "lambda_min_clipped" : "num_train_timesteps";
    throw tooMany(last - points + steps, `${why} of the model`);
  }
  const all = spaced(spacing, {
    n,
    last,
    steps,
    points,
    offset: config.steps_offset,
  });
  // The multistep solver is told timesteps past the last, as diffusers does.
  const highest = all[0] ?? 0;
  if (highest >= n && !multistep) {
    throw tooMany(
      mostLeading(n, config.steps_offset),
      `steps_offset ${config.steps_offset} leads to timestep ${highest} of 0 to ${n - 1}`,
    );
  }
  if (all.some((t) => t < 0)) {
    throw tooMany(Math.floor(n / 2), "lambda_min_clipped leaves fewer with trailing timesteps");
  }
  return all;
}

/** Of the steps that a latent consistency model was distilled at, those that are about evenly spaced, its last one first. */
function consistencyTimesteps(
  steps: number,
  { num_train_timesteps: n, original_inference_steps: distilled }: TimestepsConfig,
): number[] {
  if (distilled > n) {
    throw new FieldError(
      "original_inference_steps",
      `is ${distilled}, expected 1 to ${n} (num_train_timesteps) with sampler.kind lcm`,
    );
  }
  if (steps > distilled) {
    throw new FieldError(
      "sampler.steps",
      `is ${steps}, expected 1 to ${distilled} (original_inference_steps of the model)`,
    );
  }
  const stride = Math.floor(n / distilled);
  return Array.from(
    { length: steps },
    (_, i) => (distilled - Math.floor(i * distilled / steps)) * stride - 1,
  );
}

/** Most steps whose leading timesteps stay within the schedule. */
function mostLeading(n: number, offset: number): number {
  let most = Math.max(n - offset, 0);
  while (most > 0 && (most - 1) * Math.floor(n / most) + offset >= n) most--;
  return most;
}

function spaced(
  spacing: "linspace" | "leading" | "trailing",
  { n, last, steps, points, offset }: {
    readonly n: number;
    /** One more than the highest timestep. */
    readonly last: number;
    readonly steps: number;
    readonly points: number;
    readonly offset: number;
  },
): number[] {
  switch (spacing) {
    case "linspace":
      return linspace(0, last - 1, points).map(roundHalfEven).reverse().slice(0, steps);
    case "leading": {
      const ratio = Math.floor(last / points);
      return Array.from({ length: steps }, (_, i) => (points - 1 - i) * ratio + offset);
    }
    case "trailing": {
      // numpy's arange steps by the difference of its first two numbers.
      const step = (last - n / steps) - last;
      return Array.from({ length: steps }, (_, i) => roundHalfEven(last + i * step) - 1);
    }
  }
}
