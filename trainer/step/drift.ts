import type { Sampler, SamplerStep } from "../samplers/mod.ts";
import type { Denoiser } from "./networks.ts";

/** How the distance of the trained model from the frozen one is measured. */
export const DRIFT_KINDS = ["l2", "kl"] as const;

export type DriftKind = typeof DRIFT_KINDS[number];

/** A penalty on what the trained denoiser says differently from the frozen one, at the trained steps. */
export interface Drift {
  readonly kind: DriftKind;
  /** The penalty's factor in the loss, above 0. */
  readonly weight: number;
  /** The denoiser without LoRA. */
  readonly frozen: Denoiser;
}

/** Noise below this is none: diffusers' DDPM has 1e-10 in its last step. */
const LEAST_NOISE = 1e-6;

/**
 * The factor of (output - frozen output)² at a step. "l2": that of the predicted noise, (eps - eps_0)². "kl": of the
 * sampler's transition N(mean, noise² I), (mean - mean_0)² / (2 noise²); 0 where the step adds no noise.
 */
export function driftFactor(kind: DriftKind, { eps, next }: SamplerStep): number {
  if (kind === "l2") return eps.output ** 2;
  return next.noise > LEAST_NOISE ? (next.output / next.noise) ** 2 / 2 : 0;
}

/** Whether a sampler's transitions have a divergence. */
export function hasTransitionNoise({ steps }: Sampler): boolean {
  return steps.some(({ next }) => next.noise > LEAST_NOISE);
}
