import { setImmediate } from "node:timers/promises";

/** Elements handled in one go: less than a millisecond of the slowest work here, so that health answers stay quick. */
const CHUNK = 2 ** 16;

/** Calls `work` for consecutive ranges of 0..length, letting other events in between. */
export async function inChunks(
  length: number,
  work: (from: number, to: number) => void,
): Promise<void> {
  for (let from = 0; from < length; from += CHUNK) {
    if (from > 0) await setImmediate();
    work(from, Math.min(length, from + CHUNK));
  }
}
