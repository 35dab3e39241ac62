import assert from "node:assert/strict";
import { phaseAt } from "./kill_trainer.ts";

Deno.test("A kill's part of an iteration is told by what the parts of the one before took", () => {
  const seconds = { sample: 0.4, decode: 0.1, reward: 0.2, gradient: 1, update: 0.1, total: 1.8 };
  const told = [0, 399, 401, 501, 701, 1701, 1801, 5000].map((ms) => phaseAt(ms, seconds));
  assert.deepEqual(told, [
    ...["sample", "sample", "decode", "reward", "gradient", "update"],
    // One that took longer was at its last part, or at what comes after it.
    ...["update", "update"],
  ]);
});
