import { getPriority, setPriority } from "node:os";

/** Niceness: how much more than what this process was started with, and the most there is. */
const [LOWER, LOWEST] = [5, 19];
/** Before a service raises the priority of the thread that answers. */
const started = getPriority();

/**
 * Lets a process or, on Linux, a thread that computes give way to those that answer: with all cores busy, an answer would
 * wait for its turn. Nothing happens where it has ended already, or where this is not allowed.
 */
export function giveWay(id: number): void {
  try {
    setPriority(id, Math.min(LOWEST, started + LOWER));
  } catch {
    // As before, then.
  }
}
