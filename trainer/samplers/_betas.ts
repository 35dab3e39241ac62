import { linspace } from "./_linspace.ts";
import type { SchedulerConfig } from "./scheduler_config.ts";

/** The schedule's betas, noise added in each training timestep, in float64. */
export function betas(config: SchedulerConfig): readonly number[] {
  const { num_train_timesteps: n, beta_start, beta_end, beta_schedule, trained_betas } = config;
  if (trained_betas !== null) return trained_betas;
  switch (beta_schedule) {
    case "linear":
      return linspace(beta_start, beta_end, n);
    case "scaled_linear":
      return linspace(Math.sqrt(beta_start), Math.sqrt(beta_end), n).map((b) => b * b);
    case "sigmoid":
      return linspace(-6, 6, n).map((x) => beta_start + (beta_end - beta_start) * logistic(x));
    case "squaredcos_cap_v2":
      return ofSignal(n, (t) => Math.cos((t + 0.008) / 1.008 * Math.PI / 2) ** 2);
    case "laplace":
      return ofSignal(n, (t) => {
        const side = t <= 0.5 ? 1 : -1;
        const logSnr = -0.5 * side * Math.log(1 - 2 * Math.abs(0.5 - t) + 1e-6);
        return Math.sqrt(logistic(logSnr));
      });
  }
}

/** The same betas as diffusers has them, in float32 where it is. */
export function float32Betas(config: SchedulerConfig): readonly number[] {
  const { num_train_timesteps: n, beta_start, beta_end, beta_schedule, trained_betas } = config;
  const f = Math.fround;
  if (trained_betas !== null) return trained_betas;
  switch (beta_schedule) {
    case "linear":
      return torchLinspace(beta_start, beta_end, n);
    case "scaled_linear":
      return torchLinspace(Math.sqrt(beta_start), Math.sqrt(beta_end), n).map((b) => b * b);
    case "sigmoid": {
      const range = f(beta_end - beta_start);
      return torchLinspace(-6, 6, n).map((x) => f(f(logistic(x)) * range) + beta_start);
    }
    case "squaredcos_cap_v2":
    case "laplace":
      return betas(config);
  }
}

/** Betas of a share of signal over time, 0 to 1. */
function ofSignal(n: number, bar: (t: number) => number): number[] {
  return Array.from({ length: n }, (_, i) => Math.min(1 - bar((i + 1) / n) / bar(i / n), 0.999));
}

function logistic(x: number): number {
  return 1 / (1 + Math.exp(-x));
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
