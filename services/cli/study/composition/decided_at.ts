/**
 * Where a curve of (step, share that a replacement still changes) first falls to one half, between two points on their
 * straight line; undefined where it does not.
 */
export function decidedAt(
  points: readonly (readonly [step: number, share: number])[],
): number | undefined {
  for (const [i, [step, share]] of points.entries()) {
    if (share > 0.5) continue;
    const [before, above] = points[i - 1] ?? [step, share];
    return above === share ? step : before + (step - before) * (above - 0.5) / (above - share);
  }
  return undefined;
}
