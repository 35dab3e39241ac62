import type { SoakReport } from "./soak.ts";

/** An hour of load may add so much of a process's memory, by the upper end of the interval. */
const MEMORY_AN_HOUR = 0.05;
/** And so many handles. */
const HANDLES_AN_HOUR = 1;

/** What is wrong with a process under load, a sentence each: failures, and what grows by more than is allowed. */
export function faultsOf({ failures, memory, handles }: SoakReport): string[] {
  const faults = failures.length > 0 ? [`${failures.length} rounds failed`] : [];
  for (const [role, { high, usual }] of memory) {
    if (high <= MEMORY_AN_HOUR * usual) continue;
    faults.push(
      `Memory of ${role} may grow by ${high.toFixed(1)} MiB an hour, ` +
        `expected at most ${(MEMORY_AN_HOUR * usual).toFixed(1)}`,
    );
  }
  for (const [role, { high }] of handles) {
    if (high <= HANDLES_AN_HOUR) continue;
    faults.push(
      `Handles of ${role} may grow by ${
        high.toFixed(1)
      } an hour, expected at most ${HANDLES_AN_HOUR}`,
    );
  }
  return faults;
}
