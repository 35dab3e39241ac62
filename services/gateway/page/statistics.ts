/**
 * Exponential moving average of a curve, without the pull towards its first value: each value is divided by the weight
 * that it stands for. What is not finite is passed over.
 *
 * @param weight of what came before, 0 (the curve itself) to below 1
 */
export function smooth(values: readonly number[], weight: number): number[] {
  let [average, present] = [0, 0];
  return values.map((value) => {
    if (!Number.isFinite(value)) return NaN;
    average = weight * average + (1 - weight) * value;
    present = weight * present + (1 - weight);
    return average / present;
  });
}

/** About so many round numbers between two, both inside. */
export function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0) || !Number.isFinite(rough)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= 0.75 * rough) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  // Multiples of a power of ten are exact where they are divided by one, e.g. 3 / 10 but not 3 * 0.1.
  const inverse = step < 1 ? Math.round(1 / step) : 0;
  return Array.from(
    { length: Math.max(0, last - first + 1) },
    (_, i) => inverse > 0 ? (first + i) / inverse : (first + i) * step,
  );
}

/** At most two points a bucket, its extremes in order, so that no spike is lost. */
export function thin<P extends readonly [x: number, y: number]>(
  points: readonly P[],
  buckets: number,
): readonly P[] {
  if (points.length <= 2 * buckets) return points;
  const kept: P[] = [];
  for (let bucket = 0; bucket < buckets; bucket++) {
    const from = Math.floor(bucket * points.length / buckets);
    const to = Math.floor((bucket + 1) * points.length / buckets);
    const part = points.slice(from, to).filter(([, y]) => Number.isFinite(y));
    const [first] = part;
    if (first === undefined) continue;
    let [low, high] = [first, first];
    for (const point of part) {
      if (point[1] < low[1]) low = point;
      if (point[1] > high[1]) high = point;
    }
    if (low === high) kept.push(low);
    else kept.push(...low[0] < high[0] ? [low, high] : [high, low]);
  }
  return kept;
}
