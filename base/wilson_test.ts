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
