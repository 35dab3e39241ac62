import { studentWithin } from "./student_within.ts";

/**
 * The two-sided 95 % quantile of Student's t, that is the 97.5 % quantile, to 1e-12.
 *
 * Halving of an interval inverts `studentWithin`.
 *
 * @param freedom degrees of freedom, a whole number of 1 or more
 */
export function studentQuantile(freedom: number): number {
  let [low, high] = [0, 13];
  while (high - low > 1e-13 * high) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) break;
    if (studentWithin(middle, freedom) < 0.95) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
