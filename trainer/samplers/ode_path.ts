import type { Linear, Sampler } from "./sampler.ts";

/**
 * Sampling as the solution of an ordinary differential equation: y = x / scale moves with dy / dtime = rate. Of a flow,
 * y is x, time is sigma and the rate is the velocity; of a diffusion model y = x / alpha, time = sigma / alpha, and the
 * rate is the predicted noise (Song et al., arXiv 2010.02502, eq. 14).
 */
export interface OdePath {
  /** At every step and at the end, T + 1 of each. */
  readonly scale: readonly number[];
  readonly time: readonly number[];
  /** At every step, in terms of x and the denoiser's output. */
  readonly rate: readonly Linear[];
}

/** The path of a sampler's levels. */
export function odePath(sampler: Sampler): OdePath {
  const { steps } = sampler;
  const levels = [...steps, endLevel(sampler)];
  if (sampler.isFlow) {
    return {
      scale: levels.map(() => 1),
      time: levels.map(({ sigma }) => sigma),
      rate: steps.map(() => ({ x: 0, output: 1 })),
    };
  }
  return {
    scale: levels.map(({ alpha }) => alpha),
    time: levels.map(({ alpha, sigma }) => sigma / alpha),
    rate: steps.map(({ eps }) => eps),
  };
}

/** Whether a sampler's steps draw noise; below 1e-6 there is none: diffusers' DDPM has 1e-10 in its last step. */
export function isStochastic({ steps }: Sampler): boolean {
  return steps.some(({ next }) => next.noise > 1e-6);
}

/**
 * The level at which sampling ends. In its last step a sampler makes (clean sample, noise) out of what it predicts:
 * x_T = alpha clean + sigma noise.
 */
export function endLevel({ steps }: Sampler): { readonly alpha: number; readonly sigma: number } {
  const last = steps.at(-1);
  if (last === undefined) throw new RangeError("A sampler without steps ends nowhere");
  const { next, clean, eps } = last;
  // A prediction before the last one is of the same clean sample.
  const [x, output] = [
    next.x + next.previous * clean.x,
    next.output + next.previous * clean.output,
  ];
  const determinant = clean.x * eps.output - clean.output * eps.x;
  return {
    alpha: (x * eps.output - output * eps.x) / determinant,
    sigma: (clean.x * output - clean.output * x) / determinant,
  };
}
