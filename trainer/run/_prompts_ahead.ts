import type { Model } from "../model/mod.ts";
import { shownPrompts } from "./_gallery.ts";
import { InterruptedError } from "./_patience.ts";
import { promptsOf } from "./_prompts_of.ts";
import type { RunConfig } from "./run_config.ts";

/** Iterations whose prompts are encoded together. */
const AHEAD = 64;
/** Milliseconds between two words about progress. */
const PACE_MS = 5000;

/** Has the prompts of the iterations to come encoded, many at a time, so that text encoders need not stay loaded. */
export class PromptsAhead {
  readonly #model: Model;
  readonly #config: RunConfig;
  readonly #isInterrupted: () => boolean;
  readonly #say: (progress: string) => Promise<void>;
  /** The iteration up to which prompts are encoded. */
  #until = 0;

  constructor(
    model: Model,
    { config, isInterrupted, say }: {
      readonly config: RunConfig;
      /** Whether the run is to do something else. */
      readonly isInterrupted: () => boolean;
      /** Is told of progress, where it takes long. */
      readonly say: (progress: string) => Promise<void>;
    },
  ) {
    this.#model = model;
    this.#config = config;
    this.#isInterrupted = isInterrupted;
    this.#say = say;
  }

  /**
   * Before the iteration after `step`: encodes what it and the next ones draw, up to the last of `iterations`, if that is
   * not done.
   */
  async prepare(step: number, iterations: number): Promise<void> {
    const { prompts: encoder } = this.#model;
    if (encoder.prepare === undefined || step < this.#until) return;
    const until = Math.min(step + AHEAD, iterations);
    const wanted = new Set(shownPrompts(this.#config));
    for (let i = step + 1; i <= until; i++) {
      for (const prompt of promptsOf(this.#config, i)) wanted.add(prompt);
    }
    const begun = performance.now();
    let told = begun;
    try {
      await encoder.prepare([...wanted], async (done) => {
        if (this.#isInterrupted()) throw new InterruptedError("Something else is to be done");
        const now = performance.now();
        if (done === 0 || now - told < PACE_MS) return;
        told = now;
        const left = Math.ceil((now - begun) / 1000 / done * (wanted.size - done));
        await this.#say(`Encoded ${done} of ${wanted.size} prompts, about ${left} s left`);
      });
    } catch (error) {
      // What is not encoded now is encoded when it is drawn.
      if (!(error instanceof InterruptedError)) throw error;
      return;
    }
    this.#until = Math.max(until, step + 1);
    if (told > begun) await this.#say(`Encoded ${wanted.size} prompts`);
  }
}
