import { FieldError } from "../errors.ts";
import { alphasCumprod, float32AlphasCumprod } from "./alphas_cumprod.ts";
import { linspace, roundHalfEven } from "./_linspace.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";
import { type DiscreteSamplerKind, timesteps } from "./timesteps.ts";

interface LevelOptions {
  readonly kind: DiscreteSamplerKind;
  readonly steps: number;
  readonly karrasSigmas?: boolean | undefined;
}

/** A noise level: x = alpha·(clean sample) + sigma·(noise), and the timestep that the network is told. */
export interface Level {
  readonly timestep: number;
  readonly alpha: number;
  readonly sigma: number;
}

/** diffusers puts this share of signal in the place of none for solvers that work in log signal-to-noise. */
const NEXT_TO_NONE = 2 ** -24;

/** The levels at a sampler's timesteps, and the share of signal at every timestep. */
export function discreteLevels(options: LevelOptions, config: SchedulerConfig) {
  const multistep = options.kind === "dpmsolver++";
  const table = alphasCumprod(config);
  if (multistep && config.rescale_betas_zero_snr) table[table.length - 1] = NEXT_TO_NONE;
  // Past the last timestep, where an offset may lead the multistep solver, noise stays as it is.
  const alphas = (t: number) => table[Math.min(t, table.length - 1)] ?? NaN;
  const lowest = multistep ? clipped(config) : 0;
  const levels = timesteps(options.kind, options.steps, { ...config, clipped: lowest }).map(
    (timestep) => {
      const a = alphas(timestep);
      return { timestep, alpha: Math.sqrt(a), sigma: Math.sqrt(1 - a) };
    },
  );
  return { alphas, levels };
}

/** How many of the noisiest timesteps lie below `lambda_min_clipped`. */
function clipped(config: SchedulerConfig): number {
  const { lambda_min_clipped: least } = config;
  if (least === -Infinity) return 0;
  const logs = trainingSigmas(config).map((sigma) => -Math.log(sigma));
  return logs.filter((lambda) => lambda < least).length;
}

/** The levels of DPM-Solver++: at timesteps, or spread over noise levels as the configuration says. */
export function multistepLevels(options: LevelOptions, config: SchedulerConfig): Level[] {
  const { use_karras_sigmas, use_lu_lambdas, use_exponential_sigmas } = config;
  const { karrasSigmas = use_karras_sigmas, steps } = options;
  const wanted = { use_karras_sigmas: karrasSigmas, use_lu_lambdas, use_exponential_sigmas };
  const [spread, other] = Object.entries(wanted).flatMap(([field, on]) => on ? [field] : []);
  if (spread === undefined) return discreteLevels(options, config).levels;
  if (other !== undefined) {
    throw new FieldError(other, `is true, expected false with ${spread} true`);
  }
  if (karrasSigmas) {
    // Karras et al., "Elucidating the design space of diffusion-based generative models" (2206.00364), eq. 5, rho = 7.
    const rho = 7;
    return spreadLevels(steps, config, {
      up: (sigma) => sigma ** (1 / rho),
      down: (x) => x ** rho,
      round: config.beta_schedule === "squaredcos_cap_v2" ? Math.trunc : roundHalfEven,
    });
  }
  if (!use_lu_lambdas) {
    return spreadLevels(steps, config, { up: Math.log, down: Math.exp, round: Math.trunc });
  }
  // Lu et al., "DPM-Solver" (2206.00927): the same levels, always from end to end; diffusers takes these as float32.
  return spreadLevels(steps, { ...config, sigma_min: undefined, sigma_max: undefined }, {
    up: (sigma) => Math.fround(Math.log(sigma)),
    down: Math.exp,
    round: config.beta_schedule === "squaredcos_cap_v2" ? Math.trunc : roundHalfEven,
  });
}

/** Levels that `up` makes evenly spaced, with the timesteps next to them. */
function spreadLevels(
  steps: number,
  config: SchedulerConfig,
  { up, down, round }: {
    readonly up: (sigma: number) => number;
    readonly down: (x: number) => number;
    /** Of a position between timesteps. */
    readonly round: (position: number) => number;
  },
): Level[] {
  const spread = (sigmas: readonly number[]) => {
    const low = up(config.sigma_min ?? sigmas[0] ?? 0);
    const high = up(config.sigma_max ?? sigmas.at(-1) ?? 0);
    return linspace(0, 1, steps).map((ramp) => down(high + ramp * (low - high)));
  };
  // float32 decides on which side some positions fall.
  const single = float32Sigmas(config);
  const logs = single.map((sigma) => Math.fround(Math.log(sigma)));
  const timesteps = spread(single).map((sigma) => round(position(Math.log(sigma), logs)));
  return spread(trainingSigmas(config)).map((sigma, i) => ({
    timestep: timesteps[i] ?? 0,
    ...levelAt(sigma),
  }));
}

/** `trainingSigmas` in the precision and order of diffusers' operations. */
function float32Sigmas(config: SchedulerConfig): number[] {
  const f = Math.fround;
  const table = float32AlphasCumprod(config);
  if (config.rescale_betas_zero_snr) table[table.length - 1] = NEXT_TO_NONE;
  return Array.from(table, (a) => f(Math.sqrt(f(f(1 - a) / a))));
}

/** Noise over signal at every training timestep, ascending. */
export function trainingSigmas(config: SchedulerConfig): number[] {
  const table = alphasCumprod(config);
  if (config.rescale_betas_zero_snr) table[table.length - 1] = NEXT_TO_NONE;
  return Array.from(table, (a) => Math.sqrt((1 - a) / a));
}

export function levelAt(sigma: number): { alpha: number; sigma: number } {
  const alpha = 1 / Math.sqrt(sigma * sigma + 1);
  return { alpha, sigma: sigma * alpha };
}

/** Where `x` lies among ascending numbers, as an index between two of them. */
function position(x: number, ascending: readonly number[]): number {
  const above = ascending.findIndex((v) => v > x);
  const high = above < 0 ? ascending.length - 1 : Math.max(above, 1);
  const [a = 0, b = 1] = [ascending[high - 1], ascending[high]];
  return high - 1 + Math.min(Math.max((x - a) / (b - a), 0), 1);
}
