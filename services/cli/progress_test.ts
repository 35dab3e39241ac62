import assert from "node:assert/strict";
import { duration, secondsLeftAt } from "./progress.ts";

Deno.test("duration names hours, minutes and seconds as people do", () => {
  assert.equal(duration(7.6), "8 s");
  assert.equal(duration(59.6), "1 min 0 s");
  assert.equal(duration(200), "3 min 20 s");
  assert.equal(duration(7500), "2 h 5 min");
});

Deno.test("time left is by the pace since the first thing was done, not by how long that took", () => {
  const first = { at: 60_000, done: 1 };
  assert.equal(secondsLeftAt(first, { first, total: 9 }), undefined);
  assert.equal(secondsLeftAt({ at: 62_000, done: 3 }, { first, total: 9 }), 6);
});
