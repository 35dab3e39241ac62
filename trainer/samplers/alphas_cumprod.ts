import { betas, float32Betas } from "./_betas.ts";
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

/** The same as diffusers has it, bit for bit: of float32 betas, accumulated in float64 and rounded. */
export function float32AlphasCumprod(config: SchedulerConfig): Float32Array {
  const f = Math.fround;
  const product = (factors: readonly number[]) => {
    let all = 1;
    return Float32Array.from(factors, (factor) => all *= factor);
  };
  const plain = product(float32Betas(config).map((beta) => f(1 - f(beta))));
  if (!config.rescale_betas_zero_snr) return plain;
  // As betas again, of which diffusers forms the product anew.
  const roots = plain.map(Math.sqrt);
  const [first = 1, last = 0] = [roots[0], roots.at(-1)];
  const scale = f(first / f(first - last));
  const bars = roots.map((r) => f(f(r - last) * scale)).map((r) => r * r);
  const factors = Array.from(bars, (bar, i) => i === 0 ? bar : f(bar / (bars[i - 1] ?? 1)));
  return product(factors.map((factor) => f(1 - f(1 - factor))));
}

/** Lin et al., "Common diffusion noise schedules and sample steps are flawed" (2305.08891), algorithm 1. */
function withZeroTerminalSnr(alphas: Float64Array): Float64Array {
  const roots = alphas.map(Math.sqrt);
  const [first = 1, last = 0] = [roots[0], roots.at(-1)];
  return roots.map((r) => ((r - last) * first / (first - last)) ** 2);
}
