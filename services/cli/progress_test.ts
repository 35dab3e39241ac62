import assert from "node:assert/strict";
import { duration } from "./progress.ts";

Deno.test("duration names hours, minutes and seconds as people do", () => {
  assert.equal(duration(7.6), "8 s");
  assert.equal(duration(59.6), "1 min 0 s");
  assert.equal(duration(200), "3 min 20 s");
  assert.equal(duration(7500), "2 h 5 min");
});
