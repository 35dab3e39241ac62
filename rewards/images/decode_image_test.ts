import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { crc32 } from "node:zlib";
import { openSafetensors } from "../../models/weights/mod.ts";
import { RewardInputError } from "../errors.ts";
import { decodeImage } from "./decode_image.ts";

// Made by testdata/make_pictures.py with Pillow.
const PICTURES = fileURLToPath(new URL("../testdata/pictures/", import.meta.url));

Deno.test("decodeImage() reads files as Pillow's convert(RGB)", async (t) => {
  const decoded = openSafetensors(`${PICTURES}decoded.safetensors`);
  assert.equal(decoded.tensors.size, 12);
  for (const name of decoded.tensors.keys()) {
    await t.step(name, async () => {
      const { data, shape } = await decoded.read(name);
      const [height = 0, width = 0] = shape;
      const images = await decodeImage(PICTURES + name);
      assert.deepEqual(images.shape, [1, 3, height, width]);
      const plane = height * width;
      const bytes = Uint8Array.from(
        { length: 3 * plane },
        (_, i) => 255 * (images.data[(i % 3) * plane + Math.floor(i / 3)] ?? 0) + 0.5,
      );
      assert.deepEqual(bytes, data);
      assert.equal(images.data[0], Math.fround(Number(data[0]) / 255));
    });
  }
});

Deno.test("decodeImage() refuses what it is not meant for, before decoding it", async () => {
  const file = await Deno.readFile(`${PICTURES}rgb.png`);
  const refuses = async (source: string | Uint8Array, message: RegExp, options = {}) => {
    await assert.rejects(decodeImage(source, options), (error) => {
      assert.ok(error instanceof RewardInputError);
      assert.match(error.message, message);
      return true;
    });
  };
  await refuses(declaring(100_000), /^Image is 100000x100000, expected at most 67108864 pixels$/);
  await refuses(file, /^Image is 21x30, expected at most 600 pixels$/, { maxPixels: 600 });
  await refuses(file, /^Image has more than the 50 bytes allowed$/, { maxBytes: 50 });
  await refuses(file.subarray(0, 400), /^cat\.png cannot be decoded: /, { name: "cat.png" });
  await refuses(
    new TextEncoder().encode("<svg width='9'/>"),
    /^Image is not a PNG, JPEG or WebP file$/,
  );
  await refuses(new Uint8Array(), /^Image is not a PNG, JPEG or WebP file$/);
  await refuses(file.subarray(0, 20), /^Image has a broken header: /);
  await refuses(`${PICTURES}none.png`, /none\.png cannot be read: /);
  await refuses(PICTURES, /cannot be read: /);
});

/** A PNG file that declares `side` x `side` pixels and holds hardly any data. */
function declaring(side: number): Uint8Array {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, side);
  view.setUint32(4, side);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
  const parts = [chunk("IHDR", header), chunk("IDAT", new Uint8Array(100)), chunk("IEND")];
  return Uint8Array.from([...signature, ...parts.flatMap((part) => [...part])]);
}

function chunk(type: string, data = new Uint8Array()): Uint8Array {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(data.length + 8, crc32(bytes.subarray(4, data.length + 8)));
  return bytes;
}
