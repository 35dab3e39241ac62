import { getPriority, setPriority } from "node:os";

/** Niceness: how much less than before, and the least there is. */
const [HIGHER, HIGHEST] = [10, -20];

/**
 * Lets this thread, which is to answer and to compute nothing, run before all others where the system allows it, as it
 * does root: with all cores busy an answer would wait for some milliseconds behind each of the threads that share one.
 */
export function answerFirst(): void {
  try {
    setPriority(Math.max(HIGHEST, getPriority() - HIGHER));
  } catch {
    // Not allowed.
  }
}
