import type { Random } from "../../models/random/mod.ts";
import { alphasCumprod } from "./alphas_cumprod.ts";
import { isFlow, type Scheduler } from "./flow_scheduler_config.ts";

/** How much noise a clean sample gets for a denoiser to find, and what it should answer. */
export interface NoiseLevel {
  readonly timestep: number;
  /** x = alpha · clean + sigma · noise. */
  readonly alpha: number;
  readonly sigma: number;
  /** The right answer: clean · `clean` + noise · `noise`. */
  readonly target: { readonly clean: number; readonly noise: number };
}

/**
 * A level drawn as models are trained: a timestep of all training timesteps, each as likely; of flows a sigma of 0 to 1. The right
 * answer is the noise, v = alpha noise - sigma clean, the clean sample, or a flow's velocity, noise - clean.
 */
export function drawNoiseLevel(
  scheduler: Scheduler,
  random: Pick<Random, "uniform" | "integer">,
): NoiseLevel {
  if (isFlow(scheduler)) {
    const sigma = random.uniform();
    return { timestep: 1000 * sigma, alpha: 1 - sigma, sigma, target: { clean: -1, noise: 1 } };
  }
  const timestep = random.integer(0, scheduler.num_train_timesteps - 1);
  const signal = alphasCumprod(scheduler)[timestep] ?? NaN;
  const [alpha, sigma] = [Math.sqrt(signal), Math.sqrt(1 - signal)];
  const targets = {
    epsilon: { clean: 0, noise: 1 },
    v_prediction: { clean: -sigma, noise: alpha },
    sample: { clean: 1, noise: 0 },
  } as const;
  return { timestep, alpha, sigma, target: targets[scheduler.prediction_type] };
}
