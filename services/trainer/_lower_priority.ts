import { readlinkSync } from "node:fs";
import { getPriority, setPriority } from "node:os";

/** Niceness: how much more than before, and the most there is. */
const [LOWER, LOWEST] = [5, 19];

/** Lets this thread, and those it starts from now on, give way to the others of the process. Elsewhere than on Linux nothing. */
export function lowerPriority(): void {
  if (Deno.build.os !== "linux") return;
  try {
    // "<process>/task/<thread>"
    const thread = Number(readlinkSync("/proc/thread-self").split("/").at(-1));
    setPriority(thread, Math.min(LOWEST, getPriority() + LOWER));
  } catch {
    // No /proc.
  }
}
