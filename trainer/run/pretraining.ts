import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { extname, join, normalize, relative } from "node:path";
import sharp from "sharp";
import { z } from "zod";
import { float32 } from "../../autodiff/mod.ts";
import { decodeText } from "../../base/mod.ts";
import { FieldError } from "../errors.ts";
import { ifAbsent } from "./_if_absent.ts";
import { sha256File } from "./_sha256_file.ts";
import { drawnInPasses } from "../passes.ts";
import { randomStream } from "../random.ts";
import { drawNoiseLevel, type Scheduler } from "../samplers/mod.ts";
import type { PretrainingRow } from "../batch/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import type { RunConfig } from "./run_config.ts";

/** Pictures of a folder at most: their latents stay in memory. */
const MOST = 16_384;
const PICTURES = new Set([".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".gif"]);
const FIELD = "pretrain.folder";

/** A picture and what it shows. */
export interface CaptionedFile {
  readonly path: string;
  readonly caption: string;
}

/**
 * The pictures of a folder with their captions, in the order of their names: as Hugging Face's imagefolder has them, in lines of
 * `metadata.jsonl` with `file_name` and `text`, or else each in a text file of the picture's name beside it. Throws
 * `FieldError` naming "pretrain.folder" for a folder without pictures, and for a picture without a caption.
 */
export async function captionedFiles(folder: string): Promise<readonly CaptionedFile[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true }).catch((cause) => {
    throw new FieldError(FIELD, `cannot be read as a folder: ${cause.message}`, { cause });
  });
  const names = entries.filter((e) => e.isFile()).map((e) =>
    relative(folder, join(e.parentPath, e.name))
  ).filter((name) => PICTURES.has(extname(name).toLowerCase())).sort();
  if (names.length === 0) {
    throw new FieldError(FIELD, `has no picture, expected files of ${[...PICTURES].join(", ")}`);
  }
  if (names.length > MOST) {
    throw new FieldError(FIELD, `has ${names.length} pictures, expected at most ${MOST}`);
  }
  const listed = await metadataOf(folder);
  return await Promise.all(names.map(async (name) => {
    const beside = `${name.slice(0, -extname(name).length)}.txt`;
    const caption = listed === undefined ? await textOf(folder, beside) : listed.get(name);
    if (caption?.trim()) return { path: join(folder, name), caption: caption.trim() };
    const place = listed === undefined ? beside : "metadata.jsonl";
    throw new FieldError(FIELD, `has no caption of ${name}, expected one in ${place}`);
  }));
}

const lineSchema = z.looseObject({ file_name: z.string(), text: z.string() });

/** Captions by file name; `undefined` where there is no `metadata.jsonl`. */
async function metadataOf(folder: string): Promise<ReadonlyMap<string, string> | undefined> {
  const text = await textOf(folder, "metadata.jsonl");
  if (text === undefined) return undefined;
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return new Map(lines.map((line, i) => {
    const { data } = lineSchema.safeParse(parsed(line));
    // Written on Windows it has backslashes.
    if (data !== undefined) return [normalize(data.file_name.replaceAll("\\", "/")), data.text];
    throw new FieldError(
      FIELD,
      `has a metadata.jsonl whose line ${i + 1} is no object with "file_name" and "text"`,
    );
  }));
}

/** A text file, in whatever encoding editors write; `undefined` where it is not there. */
async function textOf(folder: string, name: string): Promise<string | undefined> {
  const bytes = await readFile(join(folder, name)).catch(ifAbsent(undefined));
  if (bytes === undefined) return undefined;
  try {
    return decodeText(bytes, name);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FieldError(FIELD, `has a file that cannot be read: ${reason}`, { cause });
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** sha256 (hex) of pictures and captions. */
export async function digestOf(files: readonly CaptionedFile[]): Promise<string> {
  const hash = createHash("sha256");
  for (const { path, caption } of files) hash.update(`${await sha256File(path)} ${caption}\n`);
  return hash.digest("hex");
}

/** Pictures as a run is held to them. */
export interface Pretraining {
  readonly pictures: readonly {
    readonly caption: string;
    /** Mean and logarithm of the variance of its latents, [1, 2 C, H, W]. */
    readonly moments: Float32Tensor;
  }[];
  /** Latents are the sampled ones less `shift`, times `scale`. */
  readonly scale: number;
  readonly shift: number;
}

/**
 * Reads a folder's pictures and encodes them: turned as their EXIF says, on white, covering the size of the run's images from
 * their middle. Throws `FieldError`.
 */
export async function readPretraining(
  files: readonly CaptionedFile[],
  { height, width, scale, shift, encode }: {
    /** Of the images, in pixels. */
    readonly height: number;
    readonly width: number;
    readonly scale: number;
    readonly shift: number;
    /** Moments of an image [1, 3, height, width] in [0, 1]. */
    readonly encode: (image: Float32Tensor) => Promise<Float32Tensor>;
  },
): Promise<Pretraining> {
  const pictures: Pretraining["pictures"][number][] = [];
  for (const { path, caption } of files) {
    const bytes = await readFile(path);
    const pixels = await sharp(bytes).rotate().flatten({ background: "white" }).toColorspace("srgb")
      .resize(width, height, { fit: "cover", kernel: "lanczos3" }).raw().toBuffer()
      .catch((cause) => {
        throw new FieldError(
          FIELD,
          `has a picture that cannot be read: ${path}: ${cause.message}`,
          {
            cause,
          },
        );
      });
    const plane = height * width;
    const channels = pixels.length / plane;
    const image = new Float32Array(3 * plane);
    for (let c = 0; c < 3; c++) {
      for (let p = 0; p < plane; p++) {
        // A grey picture has one channel.
        image[c * plane + p] = (pixels[p * channels + Math.min(c, channels - 1)] ?? 0) / 255;
      }
    }
    pictures.push({ caption, moments: await encode(float32(image, [1, 3, height, width])) });
  }
  return { pictures, scale, shift };
}

/**
 * The pictures beside an iteration's images `first` to `first` + `count` - 1, each with a level, noise and latents of its own: a
 * function of the seed.
 */
export function pretrainingRows(
  { pictures, scale, shift }: Pretraining,
  { config: { seed, batch: { size, accumulation } }, iteration, first, count, scheduler }: {
    readonly config: Pick<RunConfig, "seed" | "batch">;
    readonly iteration: number;
    readonly first: number;
    readonly count: number;
    readonly scheduler: Scheduler;
  },
): readonly PretrainingRow[] {
  const before = (iteration - 1) * size * accumulation + first;
  const order = { first: before, count, seed, purpose: "pictures" } as const;
  return drawnInPasses(pictures.length, order).map((n, i) => {
    const picture = pictures[n];
    if (picture === undefined) throw new RangeError(`There is no picture ${n}`);
    const random = randomStream(seed, "pretrain", { iteration, image: first + i });
    const { caption, moments: { data, shape: [, channels = 2, height = 1, width = 1] } } = picture;
    const half = data.length / 2;
    const [spread, noise] = [random.normals(half), random.normals(half)];
    const clean = Float32Array.from(spread, (e, i) => {
      // diffusers clamps the logarithm likewise.
      const log = Math.min(20, Math.max(-30, data[half + i] ?? 0));
      return ((data[i] ?? 0) + Math.exp(log / 2) * e - shift) * scale;
    });
    const shape = [1, channels / 2, height, width];
    return {
      caption,
      clean: float32(clean, shape),
      noise: float32(noise, shape),
      level: drawNoiseLevel(scheduler, random),
    };
  });
}
