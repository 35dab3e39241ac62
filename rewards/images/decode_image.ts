import { open } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
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

/** Height and width of an image in pixels. */
export interface ImageSize {
  readonly height: number;
  readonly width: number;
}

/** Reads the header of a PNG, JPEG or WebP file and decodes nothing. Throws `RewardInputError` with `name`. */
export async function readImageSize(bytes: Uint8Array, name: string): Promise<ImageSize> {
  // The library reads many more formats, some of them programs: it only sees these.
  if (!isPicture(bytes)) throw new RewardInputError(`${name} is not a PNG, JPEG or WebP file`);
  const sharp = await loadSharp();
  const { height, width } = await orFault(
    sharp(bytes, { ...READING, limitInputPixels: false }).metadata(),
    `${name} has a broken header`,
  );
  return { height, width };
}

/**
 * Decodes a PNG, JPEG or WebP file, given by path or bytes, to [1, 3, H, W] in [0, 1]: its 8-bit RGB values / 255, as
 * Pillow's `convert("RGB")` has them. Transparency is dropped, not blended; colour profiles and orientation tags are
 * not applied. CMYK becomes RGB by Pillow's formula, not by a printer's profile. Of 16-bit pictures the upper 8 bits are
 * taken, of grey ones too, which Pillow alone clips at 255: such a picture would be white. The number of pixels is read from the header and checked before anything is decoded. The thread is never
 * kept for long. Throws `RewardInputError`.
 */
export async function decodeImage(
  source: string | Uint8Array,
  { maxBytes = 2 ** 28, maxPixels = 2 ** 26, ...options }: DecodeImageOptions = {},
): Promise<Images> {
  const name = options.name ?? (typeof source === "string" ? source : "Image");
  const fail = (detail: string): never => {
    throw new RewardInputError(`${name} ${detail}`);
  };
  const bytes = typeof source === "string"
    ? await orFault(readAtMost(source, maxBytes), `${name} cannot be read`)
    : source;
  if (bytes.length > maxBytes) fail(`has more than the ${maxBytes} bytes allowed`);
  const { width, height } = await readImageSize(bytes, name);
  const pixels = width * height;
  if (pixels > maxPixels) fail(`is ${height}x${width}, expected at most ${maxPixels} pixels`);
  const sharp = await loadSharp();
  const reading = sharp(bytes, { ...READING, limitInputPixels: maxPixels });
  const isPrint =
    (await orFault(reading.metadata(), `${name} has a broken header`)).space === "cmyk";
  const raw = await orFault(
    (isPrint
      ? reading.pipelineColourspace("cmyk").toColourspace("cmyk")
      : reading.removeAlpha().toColourspace("srgb"))
      .raw({ depth: "uchar" }).toBuffer(),
    `${name} cannot be decoded`,
  );
  const decoded = isPrint ? await rgbOfInks(raw) : raw;
  if (decoded.length !== 3 * pixels) {
    fail(`decodes to ${decoded.length} bytes, expected ${3 * pixels}`);
  }
  const data = new Float32Array(3 * pixels);
  for (let from = 0; from < pixels; from += PIECE) {
    if (from > 0) await setImmediate();
    const to = Math.min(pixels, from + PIECE);
    for (let channel = 0; channel < 3; channel++) {
      for (let i = from; i < to; i++) {
        data[channel * pixels + i] = (decoded[3 * i + channel] ?? 0) / 255;
      }
    }
  }
  return float32(data, [1, 3, height, width]);
}

/**
 * Pillow's colours of inks: what paper reflects through black, less the share of it that a colour's ink takes, in integers
 * rounded as it rounds them.
 */
async function rgbOfInks(inks: Uint8Array): Promise<Uint8Array> {
  const pixels = Math.floor(inks.length / 4);
  const rgb = new Uint8Array(3 * pixels);
  for (let i = 0; i < pixels; i++) {
    if (i > 0 && i % PIECE === 0) await setImmediate();
    const paper = 255 - (inks[4 * i + 3] ?? 0);
    for (let channel = 0; channel < 3; channel++) {
      const product = (inks[4 * i + channel] ?? 0) * paper + 128;
      rgb[3 * i + channel] = paper - (((product >> 8) + product) >> 8);
    }
  }
  return rgb;
}

/** Pixels taken in one go: about two milliseconds. */
const PIECE = 2 ** 18;
const READING = { ignoreIcc: true, failOn: "truncated" } as const;

async function orFault<T>(work: Promise<T>, what: string): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new RewardInputError(`${what}: ${reason.trim().replaceAll(/\s+/g, " ")}`, { cause });
  }
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
