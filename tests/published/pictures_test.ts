import assert from "node:assert/strict";
import { decodeImage } from "../../rewards/mod.ts";
import { repositoryPath } from "../models/mod.ts";

const folder = repositoryPath("tests/published/pictures");

/** A .npy file of bytes [H, W, 3]. */
function pillow(name: string): Uint8Array {
  const bytes = Deno.readFileSync(`${folder}/${name}.npy`);
  return bytes.subarray(10 + new DataView(bytes.buffer).getUint16(8, true));
}

async function ours(name: string): Promise<Uint8Array> {
  const { data } = await decodeImage(`${folder}/${name}`);
  const plane = data.length / 3;
  return Uint8Array.from(
    data,
    (_, i) => 255 * (data[(i % 3) * plane + Math.floor(i / 3)] ?? 0) + 0.5,
  );
}

Deno.test("CMYK files are Pillow's pictures", async () => {
  for (const name of ["cmyk.jpg", "cmyk_black.jpg"]) {
    assert.deepEqual(await ours(name), pillow(name), name);
  }
});

Deno.test("of 16-bit grey the upper bits are taken, where Pillow makes it white", async () => {
  for (const name of ["grey16.png", "grey16_low.png"]) {
    const [mine, theirs] = [await ours(name), pillow(name)];
    assert.equal(mine.length, theirs.length);
    // Whatever Pillow does not clip is below 256, of which no upper bit is left.
    for (const [i, value] of theirs.entries()) if (value < 255) assert.equal(mine[i], 0);
  }
  assert.ok(new Set(await ours("grey16.png")).size > 8, "grey16.png is a picture");
});

const PLAIN = [
  ...["palette_trns.png", "colour_trns.png", "grey_trns.png", "rgba.webp"],
  ...["turned.jpg", "turned.png", "animated.webp", "animated.png"],
];

Deno.test("transparent, turned and animated files are Pillow's pictures: dropped, not applied, the first", async () => {
  for (const name of PLAIN) assert.deepEqual(await ours(name), pillow(name), name);
});
