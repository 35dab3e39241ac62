import { raceAbort } from "../../base/mod.ts";
import { StatusError, type StatusName } from "./errors.ts";

/** When a unary call is tried again, with random exponential backoff. */
export interface RetryOptions {
  /** Default 5, the first included. */
  readonly attempts?: number;
  /** Longest wait before the second attempt; doubles with each. Default 100 ms. */
  readonly initialMs?: number;
  /** Longest wait. Default 5,000 ms. */
  readonly maxMs?: number;
  /** Default UNAVAILABLE only. */
  readonly statuses?: readonly StatusName[];
}

/**
 * What `work` answers, tried again as the options say. Throws the last failure, or the signal's reason. Nothing is tried
 * again that would begin after the deadline.
 *
 * @param retry default: one attempt
 * @param deadline milliseconds since the epoch
 */
export async function retried<T>(
  work: () => Promise<T>,
  { retry = { attempts: 1 }, deadline, signal }: {
    readonly retry?: RetryOptions | undefined;
    readonly deadline: number;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<T> {
  const { attempts = 5, initialMs = 100, maxMs = 5000, statuses = ["UNAVAILABLE"] } = retry;
  for (let attempt = 1;; attempt++) {
    signal?.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      signal?.throwIfAborted();
      const again = error instanceof StatusError && statuses.includes(error.status);
      const wait = Math.random() * Math.min(maxMs, initialMs * 2 ** (attempt - 1));
      if (!again || attempt >= attempts || deadline <= Date.now() + wait) throw error;
      await raceAbort(new Promise<void>((resolve) => setTimeout(resolve, wait)), signal);
    }
  }
}
