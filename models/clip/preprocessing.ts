import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { ConfigError, count, inert, only, parseConfig, readJsonObject } from "../config.ts";

/** Mean and standard deviation per channel that OpenAI's CLIP and most of its kin were trained with. */
export const CLIP_MEAN: readonly number[] = [0.48145466, 0.4578275, 0.40821073];
export const CLIP_STD: readonly number[] = [0.26862954, 0.26130258, 0.27577711];

/** Pillow's resampling filters in the order of their numbers, which `resample` of a processor's file gives. */
export const RESAMPLINGS = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"] as const;

/** How an image of any size becomes what a vision tower reads, as the file beside its weights says. */
export interface ImagePreprocessing {
  /**
   * `cover`: the shortest side becomes that of the square `resizeTo`; `within`: the longest does; `stretch`: both sides
   * become `resizeTo`; `none`: the image keeps its size. What exceeds the tower's square is then cut off around the
   * centre, and what lacks is filled with zeros, before normalisation.
   */
  readonly resize: "cover" | "within" | "stretch" | "none";
  /** Sides in pixels. */
  readonly resizeTo: { readonly height: number; readonly width: number };
  readonly resample: (typeof RESAMPLINGS)[number];
  /** What pixels in [0, 1] are multiplied by before normalisation: 1, or 255 where the processor does not rescale. */
  readonly scale: number;
  /** Per channel, subtracted from the scaled pixels. */
  readonly mean: readonly number[];
  /** Per channel, above 0, that the difference is divided by. */
  readonly std: readonly number[];
}

/** What OpenAI's CLIP does to an image: resize to cover the square, cut out its centre, normalise. */
export function clipPreprocessing(imageSize: number): ImagePreprocessing {
  return {
    resize: "cover",
    resizeTo: { height: imageSize, width: imageSize },
    resample: "bicubic",
    scale: 1,
    mean: CLIP_MEAN,
    std: CLIP_STD,
  };
}

interface ProcessorDefaults {
  readonly resample: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly crops: boolean;
  /** Whether a size given as one number is a square that the image is stretched to, not a shortest side. */
  readonly isSquare: boolean;
}

/** What `use_square_size` means, whatever `size` says: the default of CLIP's processor, as a square. */
const SQUARE_SIZE = { height: 224, width: 224 };

const HALF: readonly number[] = [0.5, 0.5, 0.5];
const OF_CLIP = { resample: 3, mean: CLIP_MEAN, std: CLIP_STD, crops: true, isSquare: false };

/** transformers' image processors that do nothing but what the fields below say, and their defaults. */
const PROCESSORS: Readonly<Record<string, ProcessorDefaults>> = {
  CLIP: OF_CLIP,
  Bit: OF_CLIP,
  ChineseCLIP: { ...OF_CLIP, isSquare: true },
  OwlViT: { ...OF_CLIP, crops: false, isSquare: true },
  Blip: { ...OF_CLIP, crops: false, isSquare: true },
  ViT: { resample: 2, mean: HALF, std: HALF, crops: false, isSquare: true },
  Siglip: { resample: 3, mean: HALF, std: HALF, crops: false, isSquare: true },
};

const NAMES = ["preprocessor_config.json", "processor_config.json"] as const;

const side = () => z.union([count(), z.tuple([count(), count()])]);
const extent = z.strictObject({ height: count(), width: count() });
/** Python's truth of what files have: null and 0 are false. A text that says no is true there, and refused here. */
const flag = () =>
  z.union([
    z.boolean(),
    z.literal(1).transform(() => true),
    z.string().regex(/^(?:true|yes|on|1)$/i).transform(() => true),
    z.union([z.null(), z.literal(0), z.literal("")]).transform(() => false),
  ], "true or false").optional();
const perChannel = (least: number, expected: string) =>
  z.union([
    z.array(z.number(expected).gt(least, expected)).length(3, expected),
    z.tuple([z.number(expected).gt(least, expected)]).transform(([v]) => [v, v, v]),
    z.number(expected).gt(least, expected).transform((v) => [v, v, v]),
  ], expected).nullish();

const SCHEMA = z.strictObject({
  ...inert("processor_class", "image_processor_type", "feature_extractor_type", "auto_map"),
  ...inert("do_convert_rgb", "return_tensors", "data_format", "input_data_format", "device"),
  ...inert("disable_grouping", "transformers_version", "image_seq_length", "valid_processor_keys"),
  do_resize: flag(),
  size: z.union(
    [side(), z.strictObject({ shortest_edge: count(), longest_edge: z.null().optional() }), extent],
    "a number, two numbers, a shortest_edge, or height and width",
  ).nullish(),
  default_to_square: flag(),
  use_square_size: flag(),
  resample: z.int("a number of Pillow's filters, 0 to 5").min(0, "0 to 5").max(5, "0 to 5")
    .nullish(),
  do_center_crop: flag(),
  crop_size: z.union(
    [
      side(),
      extent,
      z.strictObject({ shortest_edge: count() }).transform((s) => s.shortest_edge),
    ],
    "a number, two numbers, or height and width",
  ).nullish(),
  do_rescale: flag(),
  rescale_factor: z.number("a number above 0").gt(0, "a number above 0").nullish(),
  do_normalize: flag(),
  image_mean: perChannel(-Infinity, "three numbers, or one for all channels"),
  image_std: perChannel(0, "three numbers above 0, or one for all channels"),
  do_pad: only(false, null).optional(),
  pad_size: only(null).optional(),
  do_flip_channel_order: only(false, null).optional(),
});

/**
 * What transformers' processor beside a model does to an image: `preprocessor_config.json`, or the `image_processor` of
 * `processor_config.json`, in both notations of sizes. Without a file it is `otherwise`. Throws `ConfigError` naming
 * file, field, what was found and what was expected where a value is one that is not honoured here, and where the
 * result would not be the square that the tower reads.
 */
export async function readPreprocessing(
  folder: string,
  { imageSize, otherwise, processor = "CLIP" }: {
    /** Side of the tower's square. */
    readonly imageSize: number;
    readonly otherwise: ImagePreprocessing;
    /** Whose defaults count where the file names no class. */
    readonly processor?: keyof typeof PROCESSORS & string;
  },
): Promise<ImagePreprocessing> {
  for (const name of NAMES) {
    const path = join(folder, name);
    if (!existsSync(path)) continue;
    const value = await readJsonObject(path);
    if (name === "preprocessor_config.json") {
      return parsePreprocessing(value, { path, imageSize, processor });
    }
    // A processor's own file may hold settings of the tokenizer and nothing about images.
    const nested = z.record(z.string(), z.unknown()).safeParse(value["image_processor"]);
    if (nested.success) {
      return parsePreprocessing(nested.data, { path, imageSize, processor });
    }
  }
  return otherwise;
}

/** The fields of an image processor's file; see `readPreprocessing`. */
export function parsePreprocessing(
  value: Readonly<Record<string, unknown>>,
  { path, imageSize, processor = "CLIP" }: {
    readonly path: string;
    readonly imageSize: number;
    readonly processor?: string;
  },
): ImagePreprocessing {
  const defaults = defaultsOf(value, { path, processor });
  const c = parseConfig(SCHEMA, value, path);
  const fail = (field: string, expected: string): never => {
    throw new ConfigError(
      path,
      `"${field}" is ${JSON.stringify(value[field]) ?? "missing"}, expected ${expected}`,
    );
  };
  const square = { height: imageSize, width: imageSize };
  const fits = ({ height, width }: typeof square) => height === imageSize && width === imageSize;
  const wanted = `${imageSize}x${imageSize}, which the vision tower reads`;
  const resizes = c.do_resize ?? true;
  const crops = c.do_center_crop ?? defaults.crops;
  const isSquare = c.default_to_square ?? defaults.isSquare;
  const { resize, resizeTo } = !resizes
    ? { resize: "none" as const, resizeTo: square }
    : sizeOf(c.use_square_size ? SQUARE_SIZE : c.size, { square, isSquare });
  if (crops && !fits(extentOf(c.crop_size) ?? square)) fail("crop_size", wanted);
  if (!crops && resize === "none") {
    fail("do_resize", `true where nothing is cropped: images must become ${wanted}`);
  }
  if (!crops && resize === "cover") {
    fail("do_center_crop", "true where size is a shortest edge: other images are not square then");
  }
  if (!crops && !fits(resizeTo)) fail("size", wanted);
  const normalises = c.do_normalize ?? true;
  return {
    resize,
    resizeTo,
    resample: RESAMPLINGS[c.resample ?? defaults.resample] ?? "bicubic",
    scale: (c.do_rescale ?? true) ? scaleOf(c.rescale_factor ?? 1 / 255) : 255,
    mean: normalises ? c.image_mean ?? defaults.mean : [0, 0, 0],
    std: normalises ? c.image_std ?? defaults.std : [1, 1, 1],
  };
}

function defaultsOf(
  value: Readonly<Record<string, unknown>>,
  { path, processor }: { readonly path: string; readonly processor: string },
): ProcessorDefaults {
  const field = ["image_processor_type", "feature_extractor_type"].find((f) => value[f] != null);
  const found = field === undefined ? processor : String(value[field]);
  const family = found.replace(/(ImageProcessor(Fast|Pil)?|FeatureExtractor)$/, "");
  const defaults = Object.hasOwn(PROCESSORS, family) ? PROCESSORS[family] : undefined;
  if (defaults !== undefined) return defaults;
  throw new ConfigError(
    path,
    `"${field}" is ${JSON.stringify(found)}, expected the image processor of ${
      Object.keys(PROCESSORS).join(", ")
    }`,
  );
}

type Extent = ImagePreprocessing["resizeTo"];

function sizeOf(
  size: z.output<typeof SCHEMA>["size"],
  { square, isSquare }: { readonly square: Extent; readonly isSquare: boolean },
): Pick<ImagePreprocessing, "resize" | "resizeTo"> {
  if (size === null || size === undefined) {
    return { resize: isSquare ? "stretch" : "cover", resizeTo: square };
  }
  if (typeof size === "number") {
    return { resize: isSquare ? "stretch" : "cover", resizeTo: { height: size, width: size } };
  }
  if (Array.isArray(size)) {
    const [height, width] = size;
    return { resize: "stretch", resizeTo: { height, width } };
  }
  if ("height" in size) return { resize: "stretch", resizeTo: size };
  const { shortest_edge: edge } = size;
  return { resize: "cover", resizeTo: { height: edge, width: edge } };
}

function extentOf(size: z.output<typeof SCHEMA>["crop_size"]): Extent | undefined {
  if (size === null || size === undefined) return undefined;
  if (typeof size === "number") return { height: size, width: size };
  if (!Array.isArray(size)) return size;
  const [height, width] = size;
  return { height, width };
}

/** Files give 1/255 with all its digits or with few; both mean pixels in [0, 1]. */
function scaleOf(factor: number): number {
  const scale = 255 * factor;
  return Math.abs(scale - 1) < 1e-3 ? 1 : scale;
}
