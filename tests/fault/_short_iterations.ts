import { join } from "node:path";
import { writeMicroPipeline } from "./_micro_pipeline.ts";

/**
 * Runs that are killed: many short iterations, so that a kill costs little more than the start of a process. A
 * checkpoint is written at every other one.
 */
const LONG = {
  model: "micro",
  latentHeight: 4,
  latentWidth: 4,
  iterations: 40,
  sampleEvery: 15,
};

/** Iterations within which a process is killed, once it does them: two checkpoints. */
export const KILLED_WITHIN = 4;

/** The folders of a test that kills: models with the pipeline, and runs. */
export async function shortIterations(folder: string) {
  const [models, runs] = [join(folder, "models"), join(folder, "runs")];
  await writeMicroPipeline(join(models, "micro"));
  return { models, runs, fields: LONG };
}

/** How long iterations take on a machine that others use, as it was lately. */
export class IterationTime {
  #ms = NaN;
  #last = NaN;

  /** Milliseconds of an iteration. */
  get ms(): number {
    return this.#ms;
  }

  /** Tells of the end of an iteration. */
  add(atMs: number): void {
    const ms = atMs - this.#last;
    this.#last = atMs;
    if (Number.isNaN(ms)) return;
    this.#ms = Number.isNaN(this.#ms) ? ms : 0.8 * this.#ms + 0.2 * ms;
  }

  /** Tells that the next iteration does not follow the last one. */
  pause(): void {
    this.#last = NaN;
  }
}
