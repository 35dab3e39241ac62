import { traced } from "../traced.ts";

/** Parts of a step that are timed. */
export type StepPhase = "sample" | "decode" | "reward" | "gradient";

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
