import { traced } from "../traced.ts";

/** Parts of a batch that are timed. */
export type BatchPhase = "sample" | "decode" | "reward" | "gradient";

/** Seconds that the phases of a batch take, each a span. */
export class PhaseClock {
  readonly seconds: Record<BatchPhase, number> = { sample: 0, decode: 0, reward: 0, gradient: 0 };

  async time<T>(phase: BatchPhase, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await traced(phase, work);
    } finally {
      this.seconds[phase] += (performance.now() - start) / 1000;
    }
  }
}
