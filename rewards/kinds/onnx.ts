import { dirname } from "node:path";
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
import type { RewardDefinition } from "../_reward_definition.ts";
import { type OpenContext, rewardKind } from "../_reward_kind.ts";
import { RewardConfigError } from "../errors.ts";
import { openTextCodec } from "../_open_text.ts";
import { FITS } from "../preprocess/mod.ts";
import { channelsOf, extentOf, prepared, rounded, valuesOf } from "./_onnx_image.ts";
import { openOnnxModel } from "./_onnx_model.ts";
import { type Config, type Given, schema } from "./_onnx_schema.ts";

/**
 * Any scorer exported as ONNX, differentiated when it is loaded: images in, one number an image out. What Python code did
 * to the image before the model must be said in the configuration.
 */
export const onnx = rewardKind({
  schema,
  open: async (config, context) => {
    const path = context.resolve(config.weights);
    try {
      return await openDefinition(path, config, context);
    } catch (cause) {
      const isOfModel = cause instanceof ImportError || cause instanceof GradientError ||
        cause instanceof GraphError;
      if (!isOfModel) throw cause;
      throw new RewardConfigError(`${path}: ${cause.message}`, { cause });
    }
  },
});

async function openDefinition(
  path: string,
  given: Given,
  { cacheDir, resolve }: OpenContext,
): Promise<RewardDefinition> {
  const model = await openOnnxModel(path, cacheDir);
  const names = interfaceOf(describeModel(model.bytes), given);
  const isWhole = !isFloat(names.image.dtype);
  const config: Config = {
    ...given,
    pixels: given.pixels ?? [0, isWhole ? 255 : 1],
    channels: given.channels ?? (channelsOf(names.image, given) === 1 ? "L" : "RGB"),
  };
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
    const values = prepared(b, pixels, config);
    const inputs = {
      [names.image.name]: isWhole ? rounded(b, values) : b.cast(values, names.image.dtype),
      ...(tokens && text?.inputs(b, tokens)),
    };
    const outputs = importModel(b, model.bytes, {
      inputs,
      outputs: [names.score],
      asFloats: isWhole ? [names.image.name] : [],
    });
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
    return b;
  };
  const maxBatch = takesTwo(names.image, () => attempt(2)) ? Infinity : 1;
  const { nodes } = attempt(1);
  const computesInHalf = nodes.some(({ outputs: [y] }) => y?.dtype === "float16");
  return {
    direction: config.direction,
    range: config.range ?? [-Infinity, Infinity],
    ...(extent !== undefined && fit !== undefined && {
      recipe: { fit, size: extent, resample: config.resample, values: valuesOf(config) },
    }),
    ...(text && { text: text.definition }),
    maxBatch,
    isForeign: true,
    // Rounding to whole numbers has no derivative: the gradient passes straight through.
    isSurrogate: nodes.some(({ op }) => op === "StraightThrough"),
    computesInHalf,
    check: config.check,
    score,
    weightsRoot: model.root,
    identity: () => ({
      ...{ ...given, name: undefined, weights: undefined, direction: undefined, range: undefined },
      check: undefined,
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
function interfaceOf({ inputs, outputs }: ModelInterface, config: Given): Names {
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
  if (image.dtype === "bool") {
    throw new RewardConfigError(`Input "${image.name}" is bool, expected an image`);
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
    definition: {
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
