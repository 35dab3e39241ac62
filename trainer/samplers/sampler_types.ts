import type { SigmaRange } from "./flow_scheduler_config.ts";
import type { SamplerKind } from "./timesteps.ts";

/** What a sampler is made from. */
export interface SamplerOptions {
  readonly kind: SamplerKind;
  /** T, the number of denoising steps. */
  readonly steps: number;
  /** DDIM's noise, 0 (default) to 1; other kinds have none. */
  readonly eta?: number | undefined;
  /** DPM-Solver++ with Karras' noise levels. Default: as the scheduler's configuration says. */
  readonly karrasSigmas?: boolean | undefined;
  /** flow-euler's noise levels before shifting. Default: as the model's pipeline has them. */
  readonly sigmas?: SigmaRange | undefined;
}

/** A number linear in the latents x and the denoiser's output o: `x`·x + `output`·o. */
export interface Linear {
  readonly x: number;
  readonly output: number;
}

/**
 * One step of a sampler as coefficients, in float64, whatever the denoiser predicts (epsilon, v, a flow's velocity or
 * the clean sample).
 * Step i has x_i = alpha·(clean sample) + sigma·(noise).
 */
export interface SamplerStep {
  readonly timestep: number;
  readonly alpha: number;
  readonly sigma: number;
  /** x_{i+1} = x·x_i + output·o_i + previous·m_{i-1} + noise·n_i, with n_i standard normal. */
  readonly next: Linear & { readonly previous: number; readonly noise: number };
  /** m_i, the one-step prediction of the clean sample. */
  readonly clean: Linear;
  /** The predicted noise. */
  readonly eps: Linear;
}

/** A sampler: a table of coefficients, noisiest step first. */
export interface Sampler {
  readonly kind: SamplerKind;
  /** Whether the denoiser predicts a flow's velocity. */
  readonly isFlow: boolean;
  readonly steps: readonly SamplerStep[];
}
