import assert from "node:assert/strict";

/** Fails unless every number is within `tolerance` of its counterpart; NaN is within nothing. */
export function close(
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  assert.equal(found.length, expected.length);
  for (let i = 0; i < expected.length; i++) {
    const [a = NaN, b = NaN] = [found[i], expected[i]];
    if (!(Math.abs(a - b) <= tolerance)) {
      assert.fail(`Value ${i} is ${a}, expected ${b} within ${tolerance}`);
    }
  }
}

/** The largest absolute value. */
export function largestOf(values: ArrayLike<number>): number {
  return Array.from(values).reduce((m, v) => Math.max(m, Math.abs(v)), 0);
}
