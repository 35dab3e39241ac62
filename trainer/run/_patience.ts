import { backoff, orSilence } from "../../base/mod.ts";
import { RewardUnavailableError } from "./reward_mixture.ts";
import { UnavailableError } from "./run_errors.ts";

/** Work was given up because something else is wanted of the run. */
export class InterruptedError extends Error {
  override readonly name = "InterruptedError";
}

/** An answer that takes this many times as long as the slowest so far is late, whatever the reward says of itself. */
const LATE_FACTOR = 10;

/** Work with rewards. */
interface Asking<T> {
  /** One try. The signal aborts when nobody waits for it any longer. */
  readonly work: (signal: AbortSignal) => Promise<T>;
  /** Throws `RewardUnavailableError` unless the rewards say within `ms` that they are there. */
  readonly ping: (ms: number) => Promise<void>;
}

/** Waits for rewards that are away. */
export class Patience {
  readonly #longest: number;
  readonly #report: { away(reason: string): Promise<void>; back(): Promise<void> };
  /** Milliseconds of the slowest answer so far. */
  #slowest: number | undefined;
  readonly #lateMs: number;
  readonly #sleepers = new Set<() => void>();

  constructor(
    { longest, lateMs = 20_000, away, back }: {
      /** Longest wait between two tries, in milliseconds. */
      readonly longest: number;
      /** An answer that takes less is not late while the reward says that it is there, in milliseconds. */
      readonly lateMs?: number;
      /** Called when a wait begins. */
      readonly away: (reason: string) => Promise<void>;
      /** Called when it ends well. */
      readonly back: () => Promise<void>;
    },
  ) {
    this.#longest = longest;
    this.#lateMs = lateMs;
    this.#report = { away, back };
  }

  /**
   * Does `work`, and where it throws `UnavailableError` tries again with growing waits. A fifth of the longest
   * wait after it began, a reward that fails, or that neither answers nor says that it is there, is reported. From
   * then on whatever `isWanted` tells of interrupts the wait, an answer on its way included: throws
   * `InterruptedError`. `wake` makes it look at once.
   */
  async until<T>(
    { work, ping, isWanted }: Asking<T> & { readonly isWanted: () => boolean },
  ): Promise<T> {
    const begun = performance.now();
    let reported: Promise<void> | undefined;
    const away = (reason: string) => reported ??= this.#report.away(reason);
    const waits = backoff({ first: Math.min(250, this.#longest / 10), longest: this.#longest });
    for (;;) {
      try {
        const result = await this.#try({ work, ping }, async (reason, over) => {
          await away(reason);
          while (!isWanted()) await this.sleep(this.#longest, over);
          throw new InterruptedError("Interrupted while a reward was late");
        });
        await reported;
        // What was asked for while it was away counts from before this work.
        if (reported && isWanted()) {
          throw new InterruptedError("Interrupted when a reward came back");
        }
        if (reported) await this.#report.back();
        return result;
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        if (performance.now() - begun >= this.#longest / 5) await away(error.message);
      }
      if (!isWanted()) await this.sleep(waits.next().value);
      if (isWanted()) throw new InterruptedError("Interrupted while a reward was away");
    }
  }

  /** Does `work` once, and throws `RewardUnavailableError` as soon as it is late. */
  async once<T>(asking: Asking<T>): Promise<T> {
    return await this.#try(asking, (reason) => Promise.reject(new RewardUnavailableError(reason)));
  }

  wake(): void {
    for (const wake of this.#sleepers) wake();
  }

  /** One try. Whether it or what is done `late` settles first is the outcome; a try that lost is aborted. */
  async #try<T>(
    { work, ping }: Asking<T>,
    late: (reason: string, over: AbortSignal) => Promise<never>,
  ): Promise<T> {
    const over = new AbortController();
    const begun = performance.now();
    const working = work(over.signal);
    const settled = working.then(() => {}, () => {});
    const watched = async (): Promise<never> => {
      const interval = this.#longest / 10;
      const limit = Math.max(this.#lateMs, LATE_FACTOR * (this.#slowest ?? Infinity));
      for (;;) {
        await orSilence(settled, interval);
        const waited = performance.now() - begun;
        const reason = over.signal.aborted
          ? undefined
          : waited >= limit
          ? `A reward has not answered in ${(waited / 1000).toFixed(1)} s`
          : await ping(interval).then(() => undefined, reasonOf);
        if (over.signal.aborted) return await new Promise<never>(() => {});
        if (reason !== undefined) return await late(reason, over.signal);
      }
    };
    try {
      const result = await Promise.race([working, watched()]);
      this.#slowest = Math.max(this.#slowest ?? 0, performance.now() - begun);
      return result;
    } finally {
      over.abort();
    }
  }

  /** Waits for so long, or until it is woken, or for ever where the signal has aborted. */
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return await new Promise<never>(() => {});
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#sleepers.add(resolve);
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => resolve(), { once: true });
    await promise;
    this.#sleepers.delete(resolve);
    clearTimeout(timer);
  }
}

function reasonOf(error: unknown): string | undefined {
  // A reward that cannot be asked is not known to be away.
  return error instanceof RewardUnavailableError ? error.message : undefined;
}
