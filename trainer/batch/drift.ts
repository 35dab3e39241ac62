import type { Sampler, SamplerStep } from "../samplers/mod.ts";
import type { Denoiser } from "./networks.ts";

/** How the distance of the trained model from its reference is measured. */
export const DRIFT_KINDS = ["l2", "kl", "norm"] as const;

export type DriftKind = typeof DRIFT_KINDS[number];

/** A penalty on what the trained denoiser says differently from its reference, at the trained steps. */
export interface Drift {
  readonly kind: DriftKind;
  /** The penalty's factor in the loss, above 0. */
  readonly weight: number;
  /** The reference: the denoiser without LoRA, or with that of an earlier step. */
  readonly frozen: Denoiser;
  /**
   * Most of the images that are penalised, as a share: those whose reward is in greatest doubt (`Evaluation.doubt`), and none
   * that is in no doubt. Default: all images.
   */
  readonly gate?: number | undefined;
}

/** Noise below this is none: diffusers' DDPM has 1e-10 in its last step. */
const LEAST_NOISE = 1e-6;

/**
 * The factor of (output - frozen output)² at a step. "l2": that of the predicted noise, (eps - eps_0)². "kl": of the
 * sampler's transition N(mean, noise² I), (mean - mean_0)² / (2 noise²); 0 where the step adds no noise.
 */
export function driftFactor(kind: Exclude<DriftKind, "norm">, { eps, next }: SamplerStep): number {
  if (kind === "l2") return eps.output ** 2;
  return next.noise > LEAST_NOISE ? (next.output / next.noise) ** 2 / 2 : 0;
}

/** Whether a sampler's transitions have a divergence. */
export function hasTransitionNoise({ steps }: Sampler): boolean {
  return steps.some(({ next }) => next.noise > LEAST_NOISE);
}

/** What a penalty makes of a batch of outputs at one step. */
export interface Penalty {
  /** Mean over the images. */
  readonly mean: number;
  /** d mean / d output, flat. */
  readonly gradient: Float64Array<ArrayBuffer>;
}

/**
 * The penalty on outputs of the guided denoiser, [B, ...] flat, against the reference's at the same step; `factors` has one
 * number for each image. "l2", "kl": `driftFactor` times the mean over elements of (o - o_0)². "norm": the hinge of NormGuard
 * (arXiv 2606.27771), here max(0, rms(o) - rms(o_0))², with rms over the elements of an image.
 */
export function driftPenalty(
  kind: DriftKind,
  { step, output, frozen, factors }: {
    readonly step: SamplerStep;
    readonly output: ArrayLike<number>;
    readonly frozen: ArrayLike<number>;
    readonly factors: readonly number[];
  },
): Penalty {
  const gradient = new Float64Array(output.length);
  const size = output.length / factors.length;
  let mean = 0;
  for (const [image, own] of factors.entries()) {
    const from = image * size;
    const squares = (values: ArrayLike<number>) => {
      let sum = 0;
      for (let i = from; i < from + size; i++) sum += (values[i] ?? 0) ** 2;
      return sum;
    };
    if (kind === "norm") {
      const [rms, limit] = [output, frozen].map((values) => Math.sqrt(squares(values) / size));
      const excess = Math.max(0, (rms ?? 0) - (limit ?? 0));
      mean += own * excess ** 2 / factors.length;
      if (excess === 0) continue;
      const slope = 2 * own * excess / ((rms ?? 1) * size * factors.length);
      for (let i = from; i < from + size; i++) gradient[i] = slope * (output[i] ?? 0);
      continue;
    }
    const factor = own * driftFactor(kind, step) / output.length;
    for (let i = from; i < from + size; i++) {
      const difference = (output[i] ?? 0) - (frozen[i] ?? 0);
      mean += factor * difference ** 2;
      gradient[i] = 2 * factor * difference;
    }
  }
  return { mean, gradient };
}

/** Which images are penalised: 1 for those in greatest doubt, at most the share `gate` of them, 0 for the others. */
export function gated(doubt: readonly number[], gate: number): readonly number[] {
  const most = Math.ceil(gate * doubt.length);
  const chosen = new Set(
    [...doubt.keys()].filter((i) => (doubt[i] ?? 0) > 0)
      .sort((a, b) => (doubt[b] ?? 0) - (doubt[a] ?? 0)).slice(0, most),
  );
  return doubt.map((_, i) => chosen.has(i) ? 1 : 0);
}
