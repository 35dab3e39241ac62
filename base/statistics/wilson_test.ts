import assert from "node:assert/strict";
import { wilson } from "./wilson.ts";

Deno.test("Wilson's interval is the formula's in Python", () => {
  const near = (found: number, expected: number) =>
    assert.ok(Math.abs(found - expected) < 1e-6, `${found}, expected ${expected}`);
  const { share, low, high } = wilson(8, 10);
  near(share, 0.8);
  near(low, 0.4901625);
  near(high, 0.9433178);
  const none = wilson(0, 20);
  near(none.low, 0);
  near(none.high, 0.1611252);
  assert.deepEqual(wilson(0, 0), { share: NaN, low: 0, high: 1 });
});

function closeTo(found: number, expected: number, tolerance: number): void {
  assert.ok(Math.abs(found - expected) <= tolerance, `${found} is not ${expected}`);
}

Deno.test("The ends of Wilson's interval are the shares that the votes are just compatible with", () => {
  const cases: [number, number, number, number][] = [
    [7, 10, 0.396778, 0.892209],
    [0, 12, 0, 0.242494],
    [12, 12, 0.757506, 1],
    [55, 100, 0.452446, 0.643855],
  ];
  for (const [wins, total, low, high] of cases) {
    const found = wilson(wins, total);
    assert.equal(found.share, wins / total);
    closeTo(found.low, low, 1e-6);
    closeTo(found.high, high, 1e-6);
    // What defines them: the observed share is 1.96 standard deviations away.
    for (const p of [found.low, found.high].filter((p) => p > 1e-9 && p < 1 - 1e-9)) {
      closeTo(Math.abs(found.share - p) / Math.sqrt(p * (1 - p) / total), 1.959964, 1e-9);
    }
  }
  assert.deepEqual(wilson(0, 0), { share: NaN, low: 0, high: 1 });
});
