import assert from "node:assert/strict";
import { smooth, thin, ticks } from "./statistics.ts";

const near = (found: number, expected: number, tolerance: number) =>
  assert(Math.abs(found - expected) <= tolerance, `${found} is not ${expected}`);

Deno.test("Smoothing keeps a constant, starts at the first value, and passes over what is not finite", () => {
  assert.deepEqual(smooth([3, 1, 2], 0), [3, 1, 2]);
  for (const value of smooth([2, 2, 2, 2], 0.9)) near(value, 2, 1e-15);
  const [first, second, gap, fourth] = smooth([1, 3, NaN, 5], 0.5);
  assert.equal(first, 1);
  // (0.5 * 1 + 3) / 1.5
  near(second ?? NaN, 7 / 3, 1e-15);
  assert(Number.isNaN(gap));
  // (0.25 * 1 + 0.5 * 3 + 5) / 1.75
  near(fourth ?? NaN, 6.75 / 1.75, 1e-15);
});

Deno.test("Ticks are round, inside, and about as many as asked for", () => {
  assert.deepEqual(ticks(0, 100, 5), [0, 20, 40, 60, 80, 100]);
  assert.deepEqual(ticks(0.11, 0.52, 4), [0.2, 0.3, 0.4, 0.5]);
  assert.deepEqual(ticks(0.1, 0.93, 4), [0.2, 0.4, 0.6, 0.8]);
  assert.deepEqual(ticks(-0.3, 0.1, 4), [-0.3, -0.2, -0.1, 0, 0.1]);
  assert.deepEqual(ticks(1, 1, 4), []);
});

Deno.test("Thinning keeps the spikes and the order", () => {
  const points = Array.from({ length: 1000 }, (_, i) => [i, i === 437 ? 9 : i % 7 / 10] as const);
  const thinned = thin(points, 50);
  assert(thinned.length <= 100);
  assert(thinned.some(([x, y]) => x === 437 && y === 9));
  assert.deepEqual(thinned.map(([x]) => x), thinned.map(([x]) => x).sort((a, b) => a - b));
  assert.equal(thin(points.slice(0, 10), 50).length, 10);
});
