import assert from "node:assert/strict";
import { choose } from "./choice.ts";

const at = (step: number, scale: number, trained: number, judge: readonly number[]) => ({
  ...{ step, scale, diversity: 1 },
  trained: [trained, trained],
  heldOut: { judge },
});

Deno.test("chosen is what is trained likes best of what no judge objects to", () => {
  const start = at(0, 1, 0, [5, 6, 7, 8]);
  const peak = at(5, 1, 1, [6, 7.1, 8, 9]);
  const near = at(10, 1, 2, [6, 7, 8.1, 9]);
  const past = at(15, 1, 9, [3, 4.1, 5, 6]);
  const half = at(15, 0.5, 3, [5.9, 7.2, 8, 9]);
  const options = { measurements: [start, peak, near, past], imagesPerPrompt: 1 };
  const compared = choose([past, half, near, peak], options);
  assert.deepEqual(
    compared.map(({ candidate: { step, scale }, objections }) => [step, scale, objections]),
    [[15, 0.5, []], [10, 1, []], [5, 1, []], [15, 1, ["judge"]]],
  );
  // Where a judge objects to everything, it objects to all alike.
  assert.equal(choose([past], options)[0]?.trained, 9);
});
