import assert from "node:assert/strict";
import { Random } from "../../models/random/mod.ts";
import { slopeOf } from "./slope.ts";

type Readings = Parameters<typeof slopeOf>[0];

function fitted(readings: Readings) {
  return slopeOf(readings) ?? assert.fail("Too few readings");
}

Deno.test("The slope of readings is that of their line, with numpy's interval", () => {
  const exact = fitted(Array.from({ length: 900 }, (_, i) => [i / 900, 50 + 7 * i / 900]));
  assert.ok(Math.abs(exact.slope - 7) < 1e-9 && exact.high - exact.low < 1e-9);

  // One reading a block. numpy.polyfit(x, y, 1, cov=True): slope and its standard error.
  const one = Array.from({ length: 18 }, (_, i): [number, number] => [i, i + (i * 7 % 5) - 2]);
  const { slope, low, high, usual } = fitted(one);
  assert.ok(Math.abs(slope - 1.0392156862745099) < 1e-12, String(slope));
  // The quantile of Student's t with 16 degrees of freedom is 2.119905299.
  assert.ok(Math.abs((high - low) / 2 - 2.119905299 * 0.06932419423397526) < 1e-9);
  assert.equal(usual, 9);
  assert.equal(slopeOf([[0, 1], [1, 2]]), undefined);

  // What is held grows by 4 an hour under work that comes and goes.
  const busy = Array.from({ length: 900 }, (_, i): [number, number] => {
    return [i / 900, 50 + 4 * i / 900 + (i % 5 === 0 ? 0 : 200 * ((i * 37) % 11))];
  });
  const held = slopeOf(busy, (values) => Math.min(...values)) ?? assert.fail("Too few readings");
  assert.ok(Math.abs(held.slope - 4) < 0.1 && held.high - held.low < 0.2, JSON.stringify(held));
});

Deno.test("The interval covers the truth as often as it says, where readings depend on one another", () => {
  const random = new Random(3);
  let covered = 0;
  for (let trial = 0; trial < 300; trial++) {
    let drift = 0;
    const { low, high } = fitted(Array.from({ length: 1800 }, (_, i) => {
      // A tenth of a block is remembered.
      drift = 0.9 * drift + random.normal();
      return [i / 1800, 100 + 5 * i / 1800 + drift];
    }));
    if (low <= 5 && 5 <= high) covered++;
  }
  assert.ok(covered / 300 > 0.92 && covered / 300 < 0.98, `${covered} of 300`);
});
