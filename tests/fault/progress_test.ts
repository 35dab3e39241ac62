import assert from "node:assert/strict";
import { progress } from "./_progress.ts";

Deno.test("Progress says how many are done and how long the rest takes at this pace", () => {
  const after = (seconds: number) => ({ of: 1000, begun: 5000, now: 5000 + 1000 * seconds });
  assert.equal(progress(0, after(3)), "0 of 1000, unknown time left");
  assert.equal(progress(10, after(20)), "10 of 1000, 33 min left");
  assert.equal(progress(10, after(200)), "10 of 1000, 5.5 h left");
  assert.equal(progress(990, after(2970)), "990 of 1000, 30 s left");
  assert.equal(progress(1000, after(2970)), "1000 of 1000, 0 s left");
});
