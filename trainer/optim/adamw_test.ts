import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { float32 } from "../../autodiff/mod.ts";
import type { Parameters } from "../tensors.ts";
import { clipFactor, globalNorm, initAdamW, scaled, updateAdamW, warmedUp } from "./mod.ts";

const numbers = z.array(z.number());
const peer = z.array(z.object({
  learningRate: z.number(),
  beta1: z.number(),
  beta2: z.number(),
  epsilon: z.number(),
  weightDecay: z.number(),
  maxNorm: z.number(),
  initial: numbers,
  updates: z.array(z.object({ gradients: numbers, norm: z.number(), parameters: numbers })),
})).parse(JSON.parse(readFileSync(new URL("../testdata/adamw.json", import.meta.url), "utf8")));

const split = (flat: readonly number[]): Parameters => ({
  a: float32(flat.slice(0, 6), [2, 3]),
  b: float32(flat.slice(6), [4]),
});
const join = (p: Parameters) => Object.values(p).flatMap(({ data }) => [...data]);

Deno.test("AdamW with clipping is PyTorch's over six updates", () => {
  for (const { initial, updates, maxNorm, ...options } of peer) {
    let parameters = split(initial);
    let state = initAdamW(parameters);
    let before = initial;
    for (const [n, { gradients: flat, norm, parameters: expected }] of updates.entries()) {
      const gradients = split(flat);
      const found = globalNorm(gradients);
      assert.ok(Math.abs(found - norm) < 1e-6 * norm);
      const clipped = scaled(gradients, clipFactor(found, maxNorm));
      ({ parameters, state } = updateAdamW({ parameters, gradients: clipped, state }, options));
      const largest = Math.max(...expected.map((v, i) => Math.abs(v - (before[i] ?? 0))));
      join(parameters).forEach((v, i) => {
        // Of the update, and of the parameter: PyTorch rounds it to float32 twice per update, this once.
        const bound = 2e-6 * largest + 1.8e-7 * (n + 1) * Math.abs(v);
        assert.ok(Math.abs(v - (expected[i] ?? NaN)) <= bound, `${v} against ${expected[i]}`);
      });
      before = expected;
    }
    assert.equal(state.updates, updates.length);
  }
});

Deno.test("an update leaves what it was given as it was", () => {
  const parameters = { a: float32([1, 2]) };
  const state = initAdamW(parameters);
  const options = { learningRate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1 };
  const gradients = { a: float32([1, -1]) };
  const once = updateAdamW({ parameters, gradients, state }, options);
  const again = updateAdamW({ parameters, gradients, state }, options);
  assert.deepEqual(once, again);
  assert.deepEqual([...parameters.a.data], [1, 2]);
  assert.deepEqual(join(state.mean), [0, 0]);
  assert.throws(
    () => updateAdamW({ parameters, gradients: {}, state }, options),
    /Parameter "a" has no gradient or state/,
  );
});

Deno.test("the learning rate warms up linearly and stays", () => {
  const rates = [1, 2, 4, 5].map((update) => warmedUp(0.4, { update, warmup: 4 }));
  assert.deepEqual(rates, [0.1, 0.2, 0.4, 0.4]);
  assert.equal(warmedUp(0.4, { update: 1, warmup: 0 }), 0.4);
});

Deno.test("a norm below the limit is not clipped", () => {
  assert.equal(clipFactor(0.05, 0.1), 1);
  assert.equal(clipFactor(100, 0), 1);
  assert.ok(Math.abs(clipFactor(100, 0.1) * 100 - 0.1) < 1e-8);
});
