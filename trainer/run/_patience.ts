import { RewardUnavailableError } from "./reward_mixture.ts";

/** Work was given up because something else is wanted of the run. */
export class InterruptedError extends Error {
  override readonly name = "InterruptedError";
}

/** Waits for rewards that are away. */
export class Patience {
  readonly #longest: number;
  readonly #report: { away(reason: string): Promise<void>; back(): Promise<void> };
  #wake: () => void = () => {};

  constructor(
    { longest, away, back }: {
      /** Longest wait between two tries, in milliseconds. */
      readonly longest: number;
      /** Called when a wait begins. */
      readonly away: (reason: string) => Promise<void>;
      /** Called when it ends well. */
      readonly back: () => Promise<void>;
    },
  ) {
    this.#longest = longest;
    this.#report = { away, back };
  }

  /**
   * Does `work`, and where it throws `RewardUnavailableError` tries again with growing waits; what is not mended within
   * a fifth of the longest wait is reported. Throws `InterruptedError` instead of waiting while `isWanted` says so;
   * `wake` makes it look at once.
   */
  async until<T>(
    work: () => Promise<T>,
    { isWanted }: { readonly isWanted: () => boolean },
  ): Promise<T> {
    const begun = performance.now();
    for (let wait = Math.min(250, this.#longest / 10), isAway = false;;) {
      try {
        const result = await work();
        // What was asked for while it was away counts from before this work.
        if (isAway && isWanted()) throw new InterruptedError("Interrupted when a reward came back");
        if (isAway) await this.#report.back();
        return result;
      } catch (error) {
        if (!(error instanceof RewardUnavailableError)) throw error;
        const isLong = performance.now() - begun >= this.#longest / 5;
        if (isLong && !isAway) await this.#report.away(error.message);
        isAway ||= isLong;
      }
      if (!isWanted()) await this.#sleep(wait);
      if (isWanted()) throw new InterruptedError("Interrupted while a reward was away");
      wait = Math.min(2 * wait, this.#longest);
    }
  }

  wake(): void {
    this.#wake();
  }

  async #sleep(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const timer = setTimeout(resolve, ms);
    await promise;
    clearTimeout(timer);
  }
}
