import { events, runPath } from "../api.ts";
import { RunHistory } from "../run_history.ts";
import type { Run } from "../types.ts";
import { isGoing } from "../views/state_chip.ts";

/** Longest that is waited for what a run without steps has recorded. */
const FIRST_MS = 2000;

/**
 * A run that is compared: its history as far as it was read. A connection is held while there is something to read and
 * no longer: a browser has six to a server, and any number of runs may be compared.
 */
export class ComparedRun {
  readonly history = new RunHistory();
  #reading: Promise<void> | undefined;
  #readTo = -1;
  #run: Run;

  constructor(run: Run) {
    this.#run = run;
  }

  get run(): Run {
    return this.#run;
  }

  /** Takes the run as it is now. Answers whether there is more to read. */
  take(run: Run): boolean {
    this.#run = run;
    return this.#readTo < run.step;
  }

  /** Reads what the run has done so far, once at a time. */
  async read(signal: AbortSignal, onEvent: () => void): Promise<void> {
    this.#reading ??= this.#read(signal, onEvent).finally(() => this.#reading = undefined);
    await this.#reading;
  }

  async #read(signal: AbortSignal, onEvent: () => void): Promise<void> {
    const { id, step, state } = this.#run;
    const enough = new AbortController();
    const timer = setTimeout(() => step === 0 && enough.abort(), FIRST_MS);
    const path = runPath(id, `/events?fromStep=${Math.max(0, this.#readTo)}`);
    try {
      for await (
        const event of events(path, { signal: AbortSignal.any([signal, enough.signal]) })
      ) {
        this.history.take(event);
        onEvent();
        // The stream of a run that has ended ends by itself, with all that belongs to its last step.
        if (isGoing(state) && this.history.lastStep >= Math.max(1, step)) break;
      }
    } catch (error) {
      if (!enough.signal.aborted) throw error;
    } finally {
      clearTimeout(timer);
    }
    this.#readTo = step;
  }
}
