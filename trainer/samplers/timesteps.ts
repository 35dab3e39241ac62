import { FieldError } from "../errors.ts";
import { linspace, roundHalfEven } from "./_linspace.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";

/** The samplers of models with discrete betas. "dpmsolver++" is the multistep one of second order (2M). */
export const DISCRETE_SAMPLER_KINDS = ["ddpm", "ddim", "dpmsolver++"] as const;

export type DiscreteSamplerKind = typeof DISCRETE_SAMPLER_KINDS[number];

/** All samplers. Flow-matching models have "flow-euler" and "dpmsolver++". */
export const SAMPLER_KINDS = [...DISCRETE_SAMPLER_KINDS, "flow-euler"] as const;

export type SamplerKind = typeof SAMPLER_KINDS[number];

/**
 * The training timesteps of `steps` sampling steps, noisiest first, as diffusers' scheduler of that kind has them.
 * Throws `FieldError` where they would leave 0..num_train_timesteps-1.
 */
export function timesteps(
  kind: DiscreteSamplerKind,
  steps: number,
  config: SchedulerConfig,
): number[] {
  const n = config.num_train_timesteps;
  const multistep = kind === "dpmsolver++";
  // diffusers lays out one step more for the multistep solver, and drops the last.
  const points = multistep ? steps + 1 : steps;
  if (points > n) {
    const found = `is ${steps}, expected 1 to ${multistep ? n - 1 : n}`;
    throw new FieldError("sampler.steps", `${found} (num_train_timesteps of the model)`);
  }
  const all = spaced(config.timestep_spacing ?? (multistep ? "linspace" : "leading"), {
    n,
    steps,
    points,
    offset: config.steps_offset,
  });
  const outside = all.find((t) => t < 0 || t >= n);
  if (outside !== undefined) {
    throw new FieldError(
      "steps_offset",
      `is ${config.steps_offset}, expected less: ${steps} steps reach timestep ${outside} of 0 to ${
        n - 1
      }`,
    );
  }
  return all;
}

function spaced(
  spacing: "linspace" | "leading" | "trailing",
  { n, steps, points, offset }: { n: number; steps: number; points: number; offset: number },
): number[] {
  switch (spacing) {
    case "linspace":
      return linspace(0, n - 1, points).map(roundHalfEven).reverse().slice(0, steps);
    case "leading": {
      const ratio = Math.floor(n / points);
      return Array.from({ length: steps }, (_, i) => (points - 1 - i) * ratio + offset);
    }
    case "trailing": {
      // numpy's arange steps by the difference of its first two numbers.
      const step = (n - n / steps) - n;
      return Array.from({ length: steps }, (_, i) => roundHalfEven(n + i * step) - 1);
    }
  }
}
