/** What a run's compute is measured in. */
export const COMPUTE_KINDS = ["cpu", "gpu"] as const;

export type ComputeKind = typeof COMPUTE_KINDS[number];

/**
 * Seconds of compute that an iteration took: on "cpu" those that were measured of the processes, on "gpu" those of the
 * clock in which it did not wait for rewards, of workers together. Undefined where they were not measured.
 */
export function computeOf(
  { cpuSeconds, seconds, workers }: {
    readonly cpuSeconds?: number | undefined;
    readonly seconds: Readonly<Record<string, number>>;
    /** Those that computed its shards, whose phases are added up. */
    readonly workers?: readonly string[] | undefined;
  },
  kind: ComputeKind,
): number | undefined {
  if (kind === "cpu") return cpuSeconds;
  if (workers !== undefined) {
    const { sample = 0, decode = 0, gradient = 0, update = 0 } = seconds;
    return sample + decode + gradient + update;
  }
  return seconds.total === undefined ? undefined : seconds.total - (seconds.reward ?? 0);
}

/**
 * Whether a budget is spent: whether another iteration, of the mean length so far, would leave what was spent farther
 * from the budget than it is now. Methods whose iterations are long are so given neither more nor less than others.
 *
 * @param spent seconds of each iteration
 */
export function isSpent(spent: readonly number[], budget: number): boolean {
  const sum = spent.reduce((a, b) => a + b, 0);
  return spent.length > 0 && sum + sum / spent.length / 2 >= budget;
}
