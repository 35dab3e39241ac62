import { raceAbort } from "../../base/mod.ts";
import { StatusError } from "../rpc/mod.ts";

/** Callers that may wait. */
const MAX_WAITING = 16;

/** Lets one caller at a time open a model beside the one that trains: memory is what a machine lacks first. */
export class Turns {
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;

  /**
   * Waits for the turns before; the next begins when this one is disposed of. Throws RESOURCE_EXHAUSTED at once where
   * too many wait, and the signal's reason when that aborts.
   */
  async take(signal: AbortSignal): Promise<Disposable> {
    if (this.#waiting >= MAX_WAITING) {
      throw new StatusError(
        "RESOURCE_EXHAUSTED",
        `${MAX_WAITING} requests for images wait already`,
      );
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const turn = this.#last;
    this.#last = turn.then(() => promise);
    this.#waiting++;
    try {
      await raceAbort(turn, signal);
    } catch (error) {
      resolve();
      throw error;
    } finally {
      this.#waiting--;
    }
    return { [Symbol.dispose]: resolve };
  }
}
