import { open } from "node:fs/promises";
import { float32 } from "../../autodiff/mod.ts";
import { loadSharp } from "../_load_sharp.ts";
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
  const attempt = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      return fail(`${what}: ${reason.trim().replaceAll(/\s+/g, " ")}`, cause);
    }
  };
  const bytes = typeof source === "string"
    ? await attempt("cannot be read", () => readAtMost(source, maxBytes))
    : source;
  if (bytes.length > maxBytes) fail(`has more than the ${maxBytes} bytes allowed`);
  // The library reads many more formats, some of them programs: it only sees these.
  if (!isPicture(bytes)) fail("is not a PNG, JPEG or WebP file");
  const sharp = await loadSharp();
  const input = { ignoreIcc: true, failOn: "truncated" } as const;
  const { width, height } = await attempt(
    "has a broken header",
    () => sharp(bytes, { ...input, limitInputPixels: false }).metadata(),
  );
  const pixels = width * height;
  if (pixels > maxPixels) fail(`is ${height}x${width}, expected at most ${maxPixels} pixels`);
  const decoded = await attempt(
    "cannot be decoded",
    () =>
      sharp(bytes, { ...input, limitInputPixels: maxPixels })
        .removeAlpha().toColourspace("srgb").raw({ depth: "uchar" }).toBuffer(),
  );
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

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const JPEG = [0xff, 0xd8, 0xff];
const RIFF = [0x52, 0x49, 0x46, 0x46];
const WEBP = [0x57, 0x45, 0x42, 0x50];

function isPicture(bytes: Uint8Array): boolean {
  const has = (signature: readonly number[], at = 0) =>
    signature.every((byte, i) => bytes[at + i] === byte);
  return has(PNG) || has(JPEG) || (has(RIFF) && has(WEBP, 8));
}

async function readAtMost(path: string, maxBytes: number): Promise<Uint8Array> {
  await using file = await open(path);
  const { size } = await file.stat();
  if (size > maxBytes) throw new RangeError(`it has ${size} bytes, at most ${maxBytes} are read`);
  return await file.readFile();
}
