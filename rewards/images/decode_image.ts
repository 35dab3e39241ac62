import { open } from "node:fs/promises";
import sharp from "sharp";
import { float32 } from "../../autodiff/mod.ts";
import { RewardInputError } from "../errors.ts";
import type { Images } from "../reward.ts";

/** Limits of `decodeImage`. */
export interface DecodeImageOptions {
  /** Most bytes of a file. Default 256 MiB. */
  readonly maxBytes?: number;
  /** Most pixels of the decoded image. Default 2^26. */
  readonly maxPixels?: number;
  /** What errors call the image. Default: its path, or "Image". */
  readonly name?: string;
}

// Each file is decoded once: a cache would only hold memory.
sharp.cache(false);

/**
 * Decodes a PNG, JPEG or WebP file, given by path or bytes, to [1, 3, H, W] in [0, 1]: its 8-bit RGB values / 255, as
 * Pillow's `convert("RGB")` has them. Transparency is dropped, not blended; colour profiles and orientation tags are
 * not applied. The number of pixels is read from the header and checked before anything is decoded.
 * Throws `RewardInputError`.
 */
export async function decodeImage(
  source: string | Uint8Array,
  { maxBytes = 2 ** 28, maxPixels = 2 ** 26, ...options }: DecodeImageOptions = {},
): Promise<Images> {
  const name = options.name ?? (typeof source === "string" ? source : "Image");
  const fail = (detail: string, cause?: unknown): never => {
    throw new RewardInputError(`${name} ${detail}`, { cause });
  };
  const reason = (cause: unknown) => cause instanceof Error ? cause.message : String(cause);
  const bytes = typeof source === "string"
    ? await readAtMost(source, maxBytes).catch((cause) =>
      fail(`cannot be read: ${reason(cause)}`, cause)
    )
    : source;
  if (bytes.length > maxBytes) fail(`has more than the ${maxBytes} bytes allowed`);
  const input = { ignoreIcc: true, failOn: "truncated" } as const;
  const header = await sharp(bytes, { ...input, limitInputPixels: false }).metadata()
    .catch((cause) => fail(`is not an image: ${reason(cause)}`, cause));
  const { format, width, height } = header;
  if (!["png", "jpeg", "webp"].includes(format)) {
    fail(`is of format ${format}, expected PNG, JPEG or WebP`);
  }
  const pixels = width * height;
  if (pixels > maxPixels) fail(`is ${height}x${width}, expected at most ${maxPixels} pixels`);
  const decoded = await sharp(bytes, { ...input, limitInputPixels: maxPixels })
    .removeAlpha().toColourspace("srgb").raw({ depth: "uchar" }).toBuffer()
    .catch((cause) => fail(`cannot be decoded: ${reason(cause)}`, cause));
  if (decoded.length !== 3 * pixels) {
    fail(`decodes to ${decoded.length} bytes, expected ${3 * pixels}`);
  }
  const data = new Float32Array(3 * pixels);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < pixels; i++) {
      data[channel * pixels + i] = (decoded[3 * i + channel] ?? 0) / 255;
    }
  }
  return float32(data, [1, 3, height, width]);
}

async function readAtMost(path: string, maxBytes: number): Promise<Uint8Array> {
  await using file = await open(path);
  const { size } = await file.stat();
  if (size > maxBytes) throw new RangeError(`it has ${size} bytes, at most ${maxBytes} are read`);
  return await file.readFile();
}
