import { dirname } from "node:path";
import { z } from "zod";
import {
  Builder,
  type DeclaredValue,
  describeModel,
  gradient,
  GradientError,
  GraphError,
  ImportError,
  importModel,
  isFloat,
  type ModelInterface,
  sizeOf,
  type Value,
} from "../../autodiff/mod.ts";
import type { RewardProgram } from "../_program.ts";
import { nameField, type OpenContext, rewardKind } from "../_reward_kind.ts";
import { RewardConfigError } from "../errors.ts";
import { openTextCodec } from "../_open_text.ts";
import { type Extent, FITS } from "../preprocess/mod.ts";
import { openOnnxModel } from "./_onnx_model.ts";

const name = () => z.string().min(1);
const side = z.int().min(1).max(8192);
const perChannel = (value: z.ZodNumber) =>
  z.union([value, z.tuple([value, value, value])], "a number, or one for red, green and blue each");

const schema = z.strictObject({
  kind: z.literal("onnx"),
  ...nameField,
  /** The `.onnx` file, opset 7 or newer. Tensors it keeps in other files must lie in its folder. */
  weights: z.string().min(1),
  /** The input that takes the image. Default: the only one. */
  input: name().optional(),
  /** The output that is the score: one number an image. Default: the only one. */
  output: name().optional(),
  /** Which number of each image, where the output has several ([B, N]). */
  index: z.int().min(0).optional(),
  direction: z.enum(["maximise", "minimise"]).default("maximise"),
  /** Lowest and highest score. Default: unbounded. */
  range: z.tuple([z.number(), z.number()]).optional(),
  /** Side of the square that the model reads, or [height, width]. Default: what the model declares, else the image as it is. */
  size: z.union([side, z.tuple([side, side])], "pixels, or [height, width]").optional(),
  /** How an image becomes of that size. */
  fit: z.enum(FITS).optional(),
  resample: z.enum(["bicubic", "bilinear"]).default("bicubic"),
  /** What black and white are to the model, before `mean` and `std`. */
  pixels: z.tuple([z.number(), z.number()]).default([0, 1]),
  /** Subtracted, then divided by: in units of `pixels`. */
  mean: perChannel(z.number()).default(0),
  std: perChannel(z.number().positive()).default(1),
  channels: z.enum(["RGB", "BGR"]).default("RGB"),
  layout: z.enum(["NCHW", "NHWC"]).default("NCHW"),
  /** For models that read the prompt: the inputs that take a CLIP tokenizer's ids and mask. */
  text: z.strictObject({
    input: name(),
    mask: name().optional(),
    /** Folder of the tokenizer. Default: that of the model. */
    tokenizer: z.string().min(1).optional(),
    /** Ids of a text. Default: what the model declares, else 77. */
    length: z.int().min(2).max(4096).optional(),
    /** Whose tokenizer: "hf" (transformers) or "open_clip". */
    tokens: z.enum(["hf", "open_clip"]).default("hf"),
  }).optional(),
});

type Config = z.output<typeof schema>;

/**
 * Any scorer exported as ONNX, differentiated when it is loaded: images in, one number an image out. What Python code did
 * to the image before the model must be said in the configuration.
 */
export const onnx = rewardKind({
  schema,
  open: async (config, context) => {
    const path = context.resolve(config.weights);
    try {
      return await openProgram(path, config, context);
    } catch (cause) {
      const isOfModel = cause instanceof ImportError || cause instanceof GradientError ||
        cause instanceof GraphError;
      if (!isOfModel) throw cause;
      throw new RewardConfigError(`${path}: ${cause.message}`, { cause });
    }
  },
});

async function openProgram(
  path: string,
  config: Config,
  { cacheDir, resolve }: OpenContext,
): Promise<RewardProgram> {
  const model = await openOnnxModel(path, cacheDir);
  const names = interfaceOf(describeModel(model.bytes), config);
  const extent = extentOf(names.image, config);
  const { fit } = config;
  if (extent === undefined && fit !== undefined) {
    throw new RewardConfigError(
      `Reward field "size" is missing: fit is ${fit}, and the model takes images of any size`,
    );
  }
  if (extent !== undefined && fit === undefined) {
    throw new RewardConfigError(
      `Reward field "fit" is missing: the model reads ${extent.height}x${extent.width} pixels, expected one of ${
        FITS.join(", ")
      }`,
    );
  }
  const text = textOf(names, config, { resolve, modelFolder: dirname(path) });
  const score = (b: Builder, pixels: Value, tokens?: Value): Value => {
    const inputs = {
      [names.image.name]: b.cast(prepared(b, pixels, config), names.image.dtype),
      ...(tokens && text?.inputs(b, tokens)),
    };
    const outputs = importModel(b, model.bytes, { inputs, outputs: [names.score] });
    return scoreOf(b, outputs[names.score], { ...config, name: names.score, images: pixels });
  };
  // A graph is made once here, so that what it lacks is known when it is loaded, and how many images it takes.
  const attempt = (count: number) => {
    const b = new Builder({ differentiable: true });
    const { height, width } = extent ?? { height: PROBE_SIDE, width: PROBE_SIDE };
    const shape = [count, 3, height, width];
    const pixels = b.input("pixels", { dtype: "float32", shape });
    const tokens = text && b.input("text", { dtype: "float32", shape: [count, text.width] });
    const value = score(b, pixels, tokens);
    gradient(b, [{ value, cotangent: b.fill(1, value) }], [pixels]);
  };
  const maxBatch = takesTwo(names.image, () => attempt(2)) ? Infinity : 1;
  attempt(1);
  return {
    direction: config.direction,
    range: config.range ?? [-Infinity, Infinity],
    ...(extent !== undefined && fit !== undefined && {
      recipe: { fit, size: extent, resample: config.resample, values: valuesOf(config) },
    }),
    ...(text && { text: text.program }),
    maxBatch,
    isForeign: true,
    score,
    weightsRoot: model.root,
    identity: () => ({
      ...{ ...config, name: undefined, weights: undefined, direction: undefined, range: undefined },
      text: config.text && { ...config.text, tokenizer: text?.digest },
      files: model.digests,
    }),
  };
}

/** Side of the images with which a model of any size is tried. */
const PROBE_SIDE = 64;

interface Names {
  readonly image: DeclaredValue;
  readonly score: string;
  readonly ids?: DeclaredValue;
  readonly mask?: DeclaredValue;
}

/** The model's inputs and output that the configuration names, or the only ones there are. */
function interfaceOf({ inputs, outputs }: ModelInterface, config: Config): Names {
  const { text } = config;
  const find = (field: string, wanted: string) => {
    const found = inputs.find(({ name }) => name === wanted);
    if (found) return found;
    throw new RewardConfigError(
      `Reward field "${field}" is "${wanted}", expected one of ${listed(inputs)}`,
    );
  };
  const ids = text && find("text.input", text.input);
  const mask = text?.mask === undefined ? undefined : find("text.mask", text.mask);
  const others = inputs.filter((input) => input !== ids && input !== mask);
  const image = config.input === undefined ? only(others, "input") : find("input", config.input);
  const left = others.filter((input) => input !== image);
  if (left.length > 0) {
    throw new RewardConfigError(
      `Model takes ${listed(left)} beside the image "${image.name}", and nothing is fed to it: ` +
        `name it in "text", or export the model with it inside`,
    );
  }
  if (!isFloat(image.dtype)) {
    throw new RewardConfigError(`Input "${image.name}" is ${image.dtype}, expected a float image`);
  }
  const known = outputs.find(({ name }) => name === config.output);
  if (config.output !== undefined && known === undefined) {
    throw new RewardConfigError(
      `Reward field "output" is "${config.output}", expected one of ${listed(outputs)}`,
    );
  }
  const score = (known ?? only(outputs, "output")).name;
  return { image, score, ...(ids && { ids }), ...(mask && { mask }) };
}

function only(values: readonly DeclaredValue[], field: "input" | "output"): DeclaredValue {
  const [first, ...others] = values;
  if (first !== undefined && others.length === 0) return first;
  throw new RewardConfigError(
    `Reward field "${field}" is missing: the model has ${listed(values) || "none"}`,
  );
}

function listed(values: readonly { readonly name: string }[]): string {
  return values.map(({ name }) => `"${name}"`).join(", ");
}

/** Height and width that the model reads; undefined where it reads any size. */
function extentOf({ name, shape }: DeclaredValue, { layout, size }: Config): Extent | undefined {
  const [wantedHeight, wantedWidth] = typeof size === "number" ? [size, size] : size ?? [];
  const extent = (height = wantedHeight, width = wantedWidth) =>
    height === undefined || width === undefined ? undefined : { height, width };
  if (shape === undefined) return extent();
  const [, first, second, third] = shape;
  const [channels, height, width] = layout === "NCHW"
    ? [first, second, third]
    : [third, first, second];
  if (shape.length !== 4 || (typeof channels === "number" && channels !== 3)) {
    throw new RewardConfigError(
      `Input "${name}" has shape [${shape.join(", ")}], expected four dimensions of which ` +
        `${layout === "NCHW" ? "the second" : "the last"} is 3 (layout ${layout})`,
    );
  }
  const declared = (value: unknown) => typeof value === "number" ? value : undefined;
  // A side that is left open by both is as long as the other.
  const high = declared(height) ?? wantedHeight ?? declared(width);
  const wide = declared(width) ?? wantedWidth ?? declared(height);
  const found = extent(high, wide);
  const isOther = (own: number | undefined, wanted: number | undefined) =>
    own !== undefined && wanted !== undefined && own !== wanted;
  if (isOther(high, wantedHeight) || isOther(wide, wantedWidth)) {
    throw new RewardConfigError(
      `Reward field "size" is ${JSON.stringify(size)}, the model reads ${high}x${wide}`,
    );
  }
  return found;
}

/** Whether two images can go in together: what was traced with one in mind may have that inside. */
function takesTwo({ shape }: DeclaredValue, attempt: () => void): boolean {
  const [batch] = shape ?? [];
  if (typeof batch === "number" && batch !== 1) {
    throw new RewardConfigError(
      `Model takes ${batch} images at a time, expected one or any number: export it with a dynamic batch`,
    );
  }
  if (batch === 1) return false;
  try {
    attempt();
    return true;
  } catch {
    // If it is not for the second image, one will fail as well.
    return false;
  }
}

/** Pixels [B, 3, h, w] in [0, 1] as the model wants them. */
function prepared(
  b: Builder,
  pixels: Value,
  { pixels: [black, white], mean, std, channels, layout }: Config,
): Value {
  const wide = (value: Config["mean"]) => {
    const three = typeof value === "number" ? [value, value, value] : value;
    return b.table(three, { dtype: "float32", shape: [1, 3, 1, 1] });
  };
  let x = pixels;
  if (white - black !== 1) x = b.mul(x, white - black);
  if (black !== 0) x = b.add(x, black);
  if (mean !== 0) x = b.sub(x, wide(mean));
  if (std !== 1) x = b.div(x, wide(std));
  if (channels === "BGR") x = b.reverse(x, [1]);
  return layout === "NHWC" ? b.transpose(x, [0, 2, 3, 1]) : x;
}

function valuesOf({ pixels, mean, std, channels, layout }: Config): string {
  const [black, white] = pixels;
  return [
    black === 0 && white === 1 ? "" : `pixels in ${black} to ${white}`,
    mean === 0 && std === 1 ? "" : `minus ${mean}, over ${std}`,
    channels === "RGB" ? "" : channels,
    layout === "NCHW" ? "" : layout,
  ].filter(Boolean).join(", ");
}

/** The scores [B] in what the model returns. */
function scoreOf(
  b: Builder,
  value: Value | undefined,
  { name, index, images }: Config & { readonly name: string; readonly images: Value },
): Value {
  if (value === undefined) throw new RangeError(`Model returns no "${name}"`);
  const [batch = 1] = images.shape;
  const { shape } = value;
  const each = sizeOf(shape) / batch;
  if (!isFloat(value.dtype) || !Number.isInteger(each) || (batch > 1 && shape[0] !== batch)) {
    throw new RewardConfigError(
      `Output "${name}" is ${value.dtype}[${shape}] for ${batch} images, expected floats for each`,
    );
  }
  if (index === undefined ? each !== 1 : index >= each) {
    throw new RewardConfigError(
      `Output "${name}" has ${each} numbers an image: ` +
        (index === undefined ? `set "index" to one of 0 to ${each - 1}` : `"index" is ${index}`),
    );
  }
  const rows = b.reshape(value, [batch, each]);
  const column = each === 1
    ? rows
    : b.slice(rows, { axis: 1, start: index ?? 0, end: (index ?? 0) + 1 });
  return b.cast(b.reshape(column, [batch]), "float32");
}

/** How the prompt reaches the model: ids and mask travel where other rewards have an embedding. */
function textOf(
  { ids, mask }: Names,
  { text }: Config,
  { resolve, modelFolder }: {
    readonly resolve: OpenContext["resolve"];
    readonly modelFolder: string;
  },
) {
  if (text === undefined || ids === undefined) return undefined;
  const declared = ids.shape?.[1];
  const length = text.length ?? (typeof declared === "number" ? declared : 77);
  const tokenizer = text.tokenizer === undefined ? undefined : resolve(text.tokenizer);
  const codec = openTextCodec({ tokenizer, modelFolder }, {
    // How many the model embeds, its file does not say.
    vocabSize: Infinity,
    contextLength: length,
    layout: text.tokens,
  });
  return {
    digest: codec.digest,
    width: 2 * length,
    program: {
      ...codec,
      encode: (prompt: string) => [...codec.encode(prompt), ...codec.mask(prompt)],
      // Ids are whole numbers below 2^24, which float32 holds exactly.
      embed: (b: Builder, both: Value) => b.cast(both, "float32"),
    },
    inputs: (b: Builder, both: Value): Readonly<Record<string, Value>> => ({
      [ids.name]: b.cast(b.slice(both, { axis: 1, start: 0, end: length }), ids.dtype),
      ...(mask && {
        [mask.name]: b.cast(b.slice(both, { axis: 1, start: length, end: 2 * length }), mask.dtype),
      }),
    }),
  };
}
