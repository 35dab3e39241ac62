import type { Float32Tensor } from "../../../../trainer/mod.ts";

/** Blocks a side: what of a picture is where, and of which colour, but no detail. */
export const BLOCKS = 8;

/**
 * Mean over the images of the root of the mean squared difference of two batches [B, C, H, W], clamped to [0, 1] and
 * averaged over `BLOCKS` x `BLOCKS` blocks.
 */
export function layoutDistance(a: Float32Tensor, b: Float32Tensor): number {
  const [left, right] = [layouts(a), layouts(b)];
  const distances = left.map((layout, i) => {
    const squares = layout.reduce((sum, v, p) => sum + (v - (right[i]?.[p] ?? NaN)) ** 2, 0);
    return Math.sqrt(squares / layout.length);
  });
  return distances.reduce((x, y) => x + y, 0) / distances.length;
}

/** Means of the blocks of each image; a block has the pixels whose middle is in it. */
function layouts({ data, shape: [batch = 0, channels = 0, height = 0, width = 0] }: Float32Tensor) {
  const size = channels * height * width;
  return Array.from({ length: batch }, (_, i) => {
    const sums = new Float64Array(channels * BLOCKS * BLOCKS);
    const counts = new Float64Array(sums.length);
    for (let p = 0; p < size; p++) {
      const [x, y] = [p % width, Math.floor(p / width) % height];
      const row = Math.floor((y + 0.5) * BLOCKS / height);
      const at = (Math.floor(p / (height * width)) * BLOCKS + row) * BLOCKS +
        Math.floor((x + 0.5) * BLOCKS / width);
      sums[at] = (sums[at] ?? 0) + Math.min(1, Math.max(0, data[i * size + p] ?? 0));
      counts[at] = (counts[at] ?? 0) + 1;
    }
    return sums.map((sum, at) => sum / Math.max(1, counts[at] ?? 1));
  });
}
