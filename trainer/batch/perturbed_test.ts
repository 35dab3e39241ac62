import assert from "node:assert/strict";
import { float32 } from "../../autodiff/mod.ts";
import { Random } from "../../models/random/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import { perturbed } from "./mod.ts";

/** The mean over pixels of cos(9 p), whose mean over Gaussian noise of deviation s is cos(9 p) exp(-81 s² / 2). */
const waves = {
  evaluate: ({ data, shape }: Float32Tensor) => {
    const scores = Array.from({ length: shape[0] ?? 0 }, (_, b) => {
      const one = data.subarray(b * data.length / 2, (b + 1) * data.length / 2);
      return one.reduce((sum, p) => sum + Math.cos(9 * p), 0) / one.length;
    });
    return Promise.resolve({
      loss: -scores.reduce((a, b) => a + b, 0) / 2,
      gradient: float32(data.map((p) => 9 * Math.sin(9 * p) / data.length), shape),
      rewards: { waves: { perImage: scores, digest: "w" } },
    });
  },
};

Deno.test("a perturbed reward is the one that is smoothed by the noise, score and gradient", async () => {
  const images = float32(Float32Array.from({ length: 24 }, (_, i) => i / 24), [2, 3, 2, 2]);
  const [noise, copies] = [0.1, 20_000];
  const normals = (copy: number, size: number) => new Random(1, copy).normals(size);
  const smooth = await perturbed(waves, { noise, copies, normals }).evaluate(images, ["a", "b"]);
  const sharp = await waves.evaluate(images);
  const factor = Math.exp(-81 * noise ** 2 / 2);
  // Standard errors are below 0.71 / sqrt(20000 * 12) of a score and 9 * 0.71 / sqrt(20000) / 24 of a gradient.
  const close = (a = NaN, b = NaN, bound = 0) => assert.ok(Math.abs(a - b) < bound, `${a} ${b}`);
  close(smooth.loss, factor * sharp.loss, 0.008);
  smooth.rewards.waves?.perImage.forEach((s, i) => {
    close(s, factor * (sharp.rewards.waves.perImage[i] ?? NaN), 0.008);
  });
  smooth.gradient.data.forEach((g, i) => {
    close(g, factor * (sharp.gradient.data[i] ?? NaN), 0.01);
  });
  assert.equal(smooth.rewards.waves?.digest, "w");
});

Deno.test("without noise a reward is what it is", () => {
  const normals = () => new Float32Array();
  assert.equal(perturbed(waves, { noise: 0, copies: 1, normals }), waves);
});
