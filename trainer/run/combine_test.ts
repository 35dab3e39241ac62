import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { COMBINATIONS, combined } from "./combine.ts";

const numbers = z.array(z.number());
const { combine: cases } = z.object({
  combine: z.array(z.object({
    combination: z.enum(COMBINATIONS),
    rewards: z.array(z.object({
      direction: z.enum(["maximise", "minimise"]),
      weight: z.number(),
      hinge: z.number().exactOptional(),
      zScore: z.boolean().exactOptional(),
      scores: numbers,
    })),
    perImage: numbers,
    slopes: z.array(numbers),
  })),
}).parse(
  JSON.parse(readFileSync(new URL("../testdata/counter_measures.json", import.meta.url), "utf8")),
);

Deno.test("the worth of images and its derivatives are PyTorch's", () => {
  const close = (found: readonly number[], expected: readonly number[]) => {
    assert.equal(found.length, expected.length);
    found.forEach((v, i) => assert.ok(Math.abs(v - (expected[i] ?? NaN)) < 1e-13, `${v} ${i}`));
  };
  assert.deepEqual(new Set(cases.map((c) => c.combination)), new Set(COMBINATIONS));
  for (const { combination, rewards, perImage, slopes } of cases) {
    const found = combined(rewards, combination);
    close(found.perImage, perImage);
    close(found.slopes.flat(), slopes.flat());
  }
});

Deno.test("images of the same score are neither better nor worse, and at the hinge there is no slope", () => {
  const reward = { direction: "maximise", weight: 2, scores: [3, 3, 3] } as const;
  assert.deepEqual(combined([{ ...reward, zScore: true }], "sum"), {
    perImage: [0, 0, 0],
    slopes: [[0, 0, 0]],
  });
  assert.deepEqual(combined([{ ...reward, scores: [1, 2, 3], hinge: 2 }], "sum"), {
    perImage: [2, 4, 4],
    slopes: [[2, 0, 0]],
  });
});
