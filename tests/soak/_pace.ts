/** Between two looks at what was used, in milliseconds. */
const LOOK_MS = 100;

/** Lets work begin only as fast as all processes together stay within a share of one core. */
export class Pace {
  readonly #share: number;
  readonly #used: () => number;
  readonly #usedBefore: number;
  readonly #begun = performance.now();
  #last: Promise<void> = Promise.resolve();

  /**
   * @param share of one core, on average since this was made
   * @param used seconds of CPU so far
   */
  constructor(share: number, used: () => number) {
    this.#share = share;
    this.#used = used;
    this.#usedBefore = used();
  }

  /** Resolves when the next piece of work may begin, one after the other. Rejects when the signal aborts. */
  turn(signal: AbortSignal): Promise<void> {
    const turn = this.#last.then(async () => {
      do {
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        signal.throwIfAborted();
      } while (this.#isBehind());
    });
    this.#last = turn.catch(() => {});
    return turn;
  }

  #isBehind(): boolean {
    const seconds = (performance.now() - this.#begun) / 1000;
    return this.#used() - this.#usedBefore > this.#share * seconds;
  }
}
