import { traced } from "../traced.ts";
import type { StepPhase } from "./train_step.ts";

/** Seconds that the phases of a step take, each a span. */
export class PhaseClock {
  readonly seconds: Record<StepPhase, number> = { sample: 0, decode: 0, reward: 0, gradient: 0 };

  async time<T>(phase: StepPhase, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await traced(phase, work);
    } finally {
      this.seconds[phase] += (performance.now() - start) / 1000;
    }
  }
}
