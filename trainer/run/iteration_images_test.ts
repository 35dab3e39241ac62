import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { float32 } from "../../autodiff/mod.ts";
import { IterationImages } from "./_iteration_images.ts";

/** Images of one grey each. */
function greys(values: readonly number[], [height, width]: readonly [number, number]) {
  const data = new Float32Array(values.length * 3 * height * width);
  values.forEach((value, i) => data.fill(value, i * 3 * height * width));
  return float32(data, [values.length, 3, height, width]);
}

Deno.test("Images of an iteration are kept small, in its order, the last ones where it was done again", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const images = new IterationImages(folder, 25);
    // Batches come in any order; one is given up and computed again.
    images.take(2, greys([0.5], [300, 600]));
    images.take(0, greys([0, 0], [32, 32]));
    images.take(0, greys([0.25, 1.5], [32, 32]));
    const paths = await images.write();
    assert.deepEqual(paths, [0, 1, 2].map((i) => `images/step-000025/${i}.jpg`));
    const found = await Promise.all(paths.map(async (path) => {
      const { data, info } = await sharp(await readFile(join(folder, path))).raw()
        .toBuffer({ resolveWithObject: true });
      return { size: [info.width, info.height], grey: data[0] ?? NaN };
    }));
    assert.deepEqual(found.map(({ size }) => size), [[32, 32], [32, 32], [256, 128]]);
    // What is beyond white is white; JPEG may be off by two.
    for (const [i, expected] of [64, 255, 128].entries()) {
      assert.ok(Math.abs((found[i]?.grey ?? NaN) - expected) <= 2, `${i}: ${found[i]?.grey}`);
    }
    assert.deepEqual(await new IterationImages(folder, 26).write(), []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
