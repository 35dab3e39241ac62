import { summarise, type Summary } from "../../base/mod.ts";

/**
 * `after` minus `before`, pair by pair: the mean and its two-sided 95 % confidence interval. Of fewer than four pairs the
 * interval is infinite.
 */
export function paired(before: readonly number[], after: readonly number[]): Summary {
  const summary = summarise(after.map((v, i) => v - (before[i] ?? NaN)));
  return after.length < 4 ? { ...summary, low: -Infinity, high: Infinity } : summary;
}
