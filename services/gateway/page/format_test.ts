import assert from "node:assert/strict";
import { ago, duration, number, percent, shortDigest, signed, stateName } from "./format.ts";

Deno.test("Numbers keep their significant digits and can be read", () => {
  const cases: [number, string][] = [
    [0, "0"],
    [137, "137"],
    [0.41237, "0.412"],
    [12.3456, "12.35"],
    [1234.56, "1235"],
    [-0.05, "−0.050"],
    [0.00123, "0.0012"],
    [0.00002, "2.000e−5"],
    [123456789.5, "1.235e8"],
    [NaN, "not a number"],
    [-Infinity, "−∞"],
  ];
  for (const [value, text] of cases) assert.equal(number(value), text);
  assert.equal(number(0.0042, 2), "0.0042");
  assert.equal(signed(0.5), "+0.500");
  assert.equal(signed(-0.5), "−0.500");
});

Deno.test("Durations have two units and never sixty of one", () => {
  const cases: [number, string][] = [
    [0.0123, "12.3 ms"],
    [0.0996, "0.10 s"],
    [2.291, "2.29 s"],
    [59.4, "59 s"],
    [59.6, "1 min"],
    [200, "3 min 20 s"],
    [3599.7, "1 h"],
    [10777, "3 h"],
    [7500, "2 h 5 min"],
    [86399, "1 d"],
    [273_600, "3 d 4 h"],
    [NaN, "–"],
    [-1, "–"],
  ];
  for (const [seconds, text] of cases) assert.equal(duration(seconds), text);
  assert.equal(ago("2026-01-01T00:00:00Z", Date.parse("2026-01-01T02:05:00Z")), "2 h ago");
  assert.equal(ago("2026-01-01T00:00:00Z", Date.parse("2026-01-01T00:00:03Z")), "just now");
});

Deno.test("Shares, digests and states are short", () => {
  assert.equal(percent(0.4249), "42 %");
  assert.equal(shortDigest("0123456789abcdef"), "0123456789ab");
  assert.equal(stateName("RUN_STATE_PAUSED"), "paused");
});
