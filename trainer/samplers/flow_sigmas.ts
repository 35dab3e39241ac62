import { betaQuantile } from "./_beta_quantile.ts";
import { linspace } from "./_linspace.ts";
import type { FlowScheduler, FlowSchedulerConfig, SigmaRange } from "./flow_scheduler_config.ts";

const f = Math.fround;

/** What `set_timesteps` is given besides the number of steps. */
export interface SigmaInput {
  /** The levels before shifting. */
  readonly sigmas: SigmaRange | readonly number[];
  /** mu of dynamic shifting; needed with it alone. */
  readonly mu?: number | undefined;
}

/** Noise levels of flow matching, each the share of noise in x = (1 - sigma) clean + sigma noise. */
export interface FlowSigmas {
  /** Descending, T + 1 of them, the last 0; inverted ones ascend to 1. */
  readonly sigmas: readonly number[];
  /** T training timesteps, sigma times `num_train_timesteps`, not whole. */
  readonly timesteps: readonly number[];
}

/**
 * Noise levels and timesteps as FlowMatchEulerDiscreteScheduler has them, float32 numbers, computed in its order of
 * operations: layout, shift, stretch to the terminal level, Karras' or another spacing.
 */
export function flowSigmas(
  config: FlowSchedulerConfig,
  { steps, sigmas: range, mu }: SigmaInput & { readonly steps: number },
): FlowSigmas {
  const n = config.num_train_timesteps;
  // diffusers computes with levels it is given in float32, and with its own in float64.
  const round = range === "scheduler" ? (x: number) => x : f;
  const laid = range === "scheduler"
    ? ownRange(config, steps)
    : range === "linspace"
    ? linspace(1, 1 / steps, steps).map(f)
    : range.map(f);
  let sigmas = laid.map(shifting(config, { mu, round }));
  if (config.shift_terminal !== null) {
    const noise = sigmas.map((s) => round(1 - s));
    const scale = round((noise.at(-1) ?? NaN) / round(1 - config.shift_terminal));
    sigmas = noise.map((z) => round(1 - round(z / scale)));
  }
  const levels = respaced(config, sigmas).map((s) => config.invert_sigmas ? f(1 - f(s)) : f(s));
  return {
    sigmas: [...levels, config.invert_sigmas ? 1 : 0],
    timesteps: levels.map((s) => f(s * n)),
  };
}

/** linspace between the greatest and the least training level, which the constructor has shifted, in float32. */
function ownRange(config: FlowSchedulerConfig, steps: number): number[] {
  const n = config.num_train_timesteps;
  const least = f(1 / n);
  const end = (s: number) =>
    config.use_dynamic_shifting ? s : f(f(f(config.shift) * s) / f(1 + f(f(config.shift - 1) * s)));
  return linspace(end(1) * n, end(least) * n, steps).map((t) => t / n);
}

/** Moves levels towards noise: by e^mu or mu where shifting is dynamic, by `shift` where not. */
function shifting(
  config: FlowSchedulerConfig,
  { mu = NaN, round }: { readonly mu?: number | undefined; round(x: number): number },
): (sigma: number) => number {
  if (config.use_dynamic_shifting) {
    const by = round(config.time_shift_type === "exponential" ? Math.exp(mu) : mu);
    return (s) => round(by / round(by + round(round(1 / s) - 1)));
  }
  const [shift, more] = [round(config.shift), round(config.shift - 1)];
  return (s) => round(round(shift * s) / round(1 + round(more * s)));
}

/** Between the first and the last level: as they are, Karras' (rho = 7), exponential, or Beta(.6, .6)'s quantiles. */
function respaced(config: FlowSchedulerConfig, sigmas: readonly number[]): readonly number[] {
  const [high = NaN, low = NaN] = [sigmas[0], sigmas.at(-1)];
  const T = sigmas.length;
  if (config.use_karras_sigmas) {
    const [a, b] = [high ** (1 / 7), low ** (1 / 7)];
    return linspace(0, 1, T).map((ramp) => (a + ramp * (b - a)) ** 7);
  }
  if (config.use_exponential_sigmas) {
    return linspace(Math.log(high), Math.log(low), T).map(Math.exp);
  }
  if (config.use_beta_sigmas) {
    return linspace(0, 1, T).map((p) => low + betaQuantile(1 - p, 0.6) * (high - low));
  }
  return sigmas;
}

/** mu on the line through (`base_image_seq_len`, `base_shift`) and (`max_image_seq_len`, `max_shift`), not clamped. */
export function linearMu(config: FlowSchedulerConfig, tokens: number): number {
  const { base_image_seq_len: n0, max_image_seq_len: n1, base_shift, max_shift } = config;
  const slope = (max_shift - base_shift) / (n1 - n0);
  return tokens * slope + (base_shift - slope * n0);
}

/**
 * mu of FLUX.2: lines in the number of tokens at 10 and at 200 steps, linear in the steps between. Above 4,300 tokens
 * that of 200 steps holds.
 */
export function flux2Mu(tokens: number, steps: number): number {
  const at200 = 0.00016927 * tokens + 0.45666666;
  if (tokens > 4300) return at200;
  const at10 = 8.73809524e-05 * tokens + 1.89833333;
  const slope = (at200 - at10) / 190;
  return slope * steps + (at200 - 200 * slope);
}

/** What a family's pipeline gives the scheduler for `steps` steps. */
export function pipelineSigmas(
  scheduler: FlowScheduler,
  { steps, range }: { readonly steps: number; readonly range?: SigmaRange | undefined },
): SigmaInput {
  const { family, tokens } = scheduler;
  const sigmas = range ?? (family === "sd3" ? "scheduler" : "linspace");
  if (!scheduler.use_dynamic_shifting) return { sigmas };
  const mu = family === "flux2" ? flux2Mu(tokens, steps) : linearMu(scheduler, tokens);
  return { sigmas, mu };
}
