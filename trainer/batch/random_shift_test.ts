import assert from "node:assert/strict";
import { float32 } from "../../autodiff/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import { shifted } from "./mod.ts";

/** Minus the sum of squares of what it sees, kept. */
function squares() {
  const seen: Float32Tensor[] = [];
  return {
    seen,
    evaluate: (images: Float32Tensor) => {
      seen.push(images);
      return Promise.resolve({
        loss: images.data.reduce((sum, p) => sum + p * p, 0),
        gradient: float32(images.data.map((p) => 2 * p), images.shape),
        rewards: {},
      });
    },
  };
}

// Two images of 3x4 with two channels: 100 image + 50 channel + 10 row + column.
const images = float32(
  Float32Array.from({ length: 48 }, (_, i) => {
    const [column, row, channel, image] = [i % 4, (i >> 2) % 3, Math.floor(i / 12) % 2, i / 24 | 0];
    return 100 * image + 50 * channel + 10 * row + column;
  }),
  [2, 2, 3, 4],
);

Deno.test("every image has its own window, and the gradient is zero outside it", async () => {
  const reward = squares();
  const most = 2;
  const shifts = [{ x: 2, y: 1 }, { x: 0, y: 2 }];
  const { gradient, loss } = await shifted(reward, { most, shifts }).evaluate(images, ["a", "b"]);
  assert.deepEqual(reward.seen[0]?.shape, [2, 2, 1, 2]);
  assert.deepEqual([...(reward.seen[0]?.data ?? [])], [12, 13, 62, 63, 120, 121, 170, 171]);
  assert.deepEqual(gradient.shape, images.shape);
  const kept = new Set(reward.seen[0]?.data);
  assert.deepEqual([...gradient.data], [...images.data].map((p) => kept.has(p) ? 2 * p : 0));
  assert.equal(loss, [...kept].reduce((sum, p) => sum + p * p, 0));
});

Deno.test("no shift is the reward itself, and one that leaves nothing is refused", async () => {
  const reward = squares();
  assert.equal(shifted(reward, { most: 0, shifts: [] }), reward);
  await assert.rejects(
    shifted(reward, { most: 3, shifts: [] }).evaluate(images, ["a", "b"]),
    /A shift of 3 leaves nothing of images of \[2,2,3,4\]/,
  );
});
