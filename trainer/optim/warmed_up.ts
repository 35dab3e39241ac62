/** Learning rate of an update, counted from 1: rises linearly over the first `warmup` updates, then stays. */
export function warmedUp(
  learningRate: number,
  { update, warmup }: { update: number; warmup: number },
): number {
  return learningRate * Math.min(1, update / Math.max(1, warmup));
}
