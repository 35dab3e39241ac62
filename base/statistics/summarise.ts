import { studentQuantile } from "./student_quantile.ts";

/** A mean and its 95 % confidence interval. */
export interface Summary {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** The mean of values and Student's 95 % confidence interval for it; of one value, the value itself. */
export function summarise(values: readonly number[]): Summary {
  const n = values.length;
  const mean = values.reduce((a, b) => a + b, 0) / n;
  if (n < 2) return { mean, low: mean, high: mean };
  const variance = values.reduce((a, v) => a + (v - mean) ** 2, 0) / (n - 1);
  const half = studentQuantile(n - 1) * Math.sqrt(variance / n);
  return { mean, low: mean - half, high: mean + half };
}
