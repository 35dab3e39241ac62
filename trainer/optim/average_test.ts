import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { float32 } from "../../autodiff/mod.ts";
import type { Parameters } from "../tensors.ts";
import { averaged } from "./mod.ts";

const numbers = z.array(z.number());
const { average: cases } = z.object({
  average: z.array(z.object({
    decay: z.number(),
    updates: z.array(z.object({ parameters: numbers, average: numbers })),
  })),
}).parse(
  JSON.parse(readFileSync(new URL("../testdata/counter_measures.json", import.meta.url), "utf8")),
);

Deno.test("the average of parameters is that of diffusers' EMAModel", () => {
  for (const { decay, updates } of cases) {
    let before: Parameters | undefined;
    for (const [n, { parameters, average }] of updates.entries()) {
      before = averaged({ p: float32(parameters) }, { before, update: n + 1, decay });
      // Ours is rounded to float32 each time, diffusers' was computed in float64.
      before.p?.data.forEach((v, i) => {
        assert.ok(Math.abs(v - (average[i] ?? NaN)) < 5e-7, `${v}, not ${average[i]}, at ${n}`);
      });
    }
  }
});
