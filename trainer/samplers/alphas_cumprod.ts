import { linspace } from "./_linspace.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";

/**
 * The share of signal in the variance at every training timestep: the running product of 1 - beta, in float64.
 * (diffusers computes it in float32, up to 3e-5 away.)
 */
export function alphasCumprod(config: SchedulerConfig): Float64Array {
  let product = 1;
  const all = Float64Array.from(betas(config), (beta) => product *= 1 - beta);
  return config.rescale_betas_zero_snr ? withZeroTerminalSnr(all) : all;
}

function betas(config: SchedulerConfig): readonly number[] {
  const { num_train_timesteps: n, beta_start, beta_end, beta_schedule, trained_betas } = config;
  if (trained_betas !== null) return trained_betas;
  switch (beta_schedule) {
    case "linear":
      return linspace(beta_start, beta_end, n);
    case "scaled_linear":
      return linspace(Math.sqrt(beta_start), Math.sqrt(beta_end), n).map((b) => b * b);
    case "squaredcos_cap_v2": {
      const bar = (t: number) => Math.cos((t + 0.008) / 1.008 * Math.PI / 2) ** 2;
      return Array.from(
        { length: n },
        (_, i) => Math.min(1 - bar((i + 1) / n) / bar(i / n), 0.999),
      );
    }
  }
}

/** The same as diffusers has it, bit for bit: of float32 betas, accumulated in float64 and rounded. */
export function float32AlphasCumprod(config: SchedulerConfig): Float32Array {
  let product = 1;
  return Float32Array.from(
    float32Betas(config),
    (beta) => product *= Math.fround(1 - Math.fround(beta)),
  );
}

function float32Betas(config: SchedulerConfig): readonly number[] {
  const { num_train_timesteps: n, beta_start, beta_end, beta_schedule, trained_betas } = config;
  if (trained_betas !== null) return trained_betas;
  switch (beta_schedule) {
    case "linear":
      return torchLinspace(beta_start, beta_end, n);
    case "scaled_linear":
      return torchLinspace(Math.sqrt(beta_start), Math.sqrt(beta_end), n).map((b) => b * b);
    case "squaredcos_cap_v2":
      return betas(config);
  }
}

/** `torch.linspace` in float32: from both ends to the middle, with one rounding each. */
function torchLinspace(from: number, to: number, count: number): number[] {
  const f = Math.fround;
  const step = count === 1 ? 0 : f(f(f(to) - f(from)) / (count - 1));
  return Array.from(
    { length: count },
    (_, i) => f(i < count >> 1 ? f(from) + step * i : f(to) - step * (count - 1 - i)),
  );
}

/** Lin et al., "Common diffusion noise schedules and sample steps are flawed" (2305.08891), algorithm 1. */
function withZeroTerminalSnr(alphas: Float64Array): Float64Array {
  const roots = alphas.map(Math.sqrt);
  const [first = 1, last = 0] = [roots[0], roots.at(-1)];
  return roots.map((r) => ((r - last) * first / (first - last)) ** 2);
}
