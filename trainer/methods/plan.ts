import type { MethodConfig } from "./method_config.ts";
import { type Integers, type Method, METHODS } from "./methods.ts";

/** What one iteration does. Steps are numbered as in the paper: T is the noisiest, 1 the last. */
export interface Plan {
  /** Ascending. Those below `tMin` are never reached. */
  readonly trainSteps: readonly number[];
  /** The step after which sampling ends with the one-step prediction; 0: sampling goes to the end. */
  readonly tMin: number;
  readonly inputStopGradient: boolean;
  readonly redraws: number;
}

/**
 * Draws one iteration's plan. The stop is never drawn above the noisiest trained step, so that something is trained;
 * the paper's settings (K > 1, m at most half of T) never come near that bound.
 */
export function plan(
  config: MethodConfig,
  { T, random }: { readonly T: number; readonly random: Integers },
): Plan {
  const { trains, redraws }: Method = METHODS[config.name];
  const steps = trains === "stop" ? undefined : trains({ T, K: config.k ?? 0, random });
  const highest = Math.min(config.m ?? 0, steps?.at(-1) ?? T);
  const tMin = config.m === undefined ? 0 : random.integer(1, highest);
  return {
    trainSteps: steps ?? [tMin],
    tMin,
    inputStopGradient: config.inputStopGradient,
    redraws,
  };
}
