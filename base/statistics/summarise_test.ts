import assert from "node:assert/strict";
import { summarise } from "./summarise.ts";

Deno.test("summarise gives Student's interval", () => {
  // scipy.stats.t.interval(0.95, 3, loc=2.5, scale=scipy.stats.sem([1, 2, 3, 4]))
  const { mean, low, high } = summarise([1, 2, 3, 4]);
  assert.equal(mean, 2.5);
  assert.ok(Math.abs(low - 0.4457) < 1e-3 && Math.abs(high - 4.5543) < 1e-3);
  assert.deepEqual(summarise([7]), { mean: 7, low: 7, high: 7 });
});
