import assert from "node:assert/strict";
import { backoff } from "./backoff.ts";

Deno.test("Waits double up to the longest", () => {
  assert.deepEqual([...backoff({ first: 100, longest: 500 }).take(5)], [100, 200, 400, 500, 500]);
  assert.deepEqual([...backoff({ first: 100, longest: 50 }).take(2)], [50, 50]);
});
