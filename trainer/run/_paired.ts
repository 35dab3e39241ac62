/** A mean of paired differences and its two-sided 95 % confidence interval. */
export interface Paired {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** `after` minus `before`, pair by pair, with Student's interval. Of fewer than four pairs the interval is infinite. */
export function paired(before: readonly number[], after: readonly number[]): Paired {
  const n = after.length;
  const differences = after.map((v, i) => v - (before[i] ?? NaN));
  const mean = differences.reduce((a, b) => a + b, 0) / n;
  if (n < 4) return { mean, low: -Infinity, high: Infinity };
  const variance = differences.reduce((a, d) => a + (d - mean) ** 2, 0) / (n - 1);
  const half = studentQuantile(n - 1) * Math.sqrt(variance / n);
  return { mean, low: mean - half, high: mean + half };
}

/** The 97.5 % quantile for 3 degrees of freedom or more, to 1 % (Abramowitz and Stegun 26.7.5). */
function studentQuantile(freedom: number): number {
  const z = 1.959964;
  const g1 = (z ** 3 + z) / 4;
  const g2 = (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96;
  const g3 = (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384;
  return z + g1 / freedom + g2 / freedom ** 2 + g3 / freedom ** 3;
}
