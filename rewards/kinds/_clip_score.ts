import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import type { Builder, Value } from "../../autodiff/mod.ts";
import {
  clipImageEmbedding,
  type ClipImageModel,
  type ClipModel,
  clipPreprocessing,
  clipTextEmbedding,
  type ImagePreprocessing,
  openClip,
  openClipImage,
  type OpenClipOptions,
} from "../../models/clip/mod.ts";
import { WeightScope } from "../../models/mod.ts";
import { openTextCodec } from "../_open_text.ts";
import type { RewardDefinition, TextDefinition } from "../_reward_definition.ts";
import { nameField, type OpenContext } from "../_reward_kind.ts";
import { normalise, type PixelRecipe, recipeOf } from "../preprocess/mod.ts";

const path = () => z.string().min(1);

/** Fields of every reward on a CLIP. */
export const clipFields = {
  ...nameField,
  /** A folder of transformers' `CLIPModel`, or an open_clip checkpoint or its folder. */
  weights: path(),
  /** An open_clip model configuration. Default: one beside the checkpoint, or inferred from the weights' shapes. */
  config: path().optional(),
  /** Of an open_clip model without a configuration. Default "gelu"; OpenAI's have "quick_gelu". */
  activation: z.enum(["gelu", "quick_gelu"]).optional(),
};

/** Fields of every reward that compares a prompt with an image by a CLIP. */
export const clipTextFields = {
  ...clipFields,
  /** Folder of the tokenizer. Default: that of the weights. */
  tokenizer: path().optional(),
};

interface ClipFields {
  readonly weights: string;
  readonly config?: string | undefined;
  readonly activation?: "gelu" | "quick_gelu" | undefined;
}

/** Opens the CLIP that the fields name. */
export async function openClipOf(fields: ClipFields, context: OpenContext): Promise<ClipModel> {
  return await openClip(context.resolve(fields.weights), optionsOf(fields, context));
}

/** Opens the vision tower of the CLIP that the fields name. */
export async function openClipImageOf(
  fields: ClipFields,
  context: OpenContext,
): Promise<ClipImageModel> {
  return await openClipImage(context.resolve(fields.weights), optionsOf(fields, context));
}

function optionsOf(
  { config, activation }: ClipFields,
  { resolve, cacheDir }: OpenContext,
): OpenClipOptions {
  return {
    cacheDir,
    ...(config === undefined ? {} : { config: resolve(config) }),
    ...(activation === undefined ? {} : { activation }),
  };
}

/**
 * How transformers' processors handle pictures. Those of version 5 resize by torchvision, whose bicubic is Pillow's to a
 * pixel in a thousand; bilinear weights make many halves, which it rounds otherwise.
 */
export function ofTransformers(
  { resample }: ImagePreprocessing,
): Pick<PixelRecipe, "referenceCrop" | "referenceResizer"> {
  return {
    referenceCrop: "transformers",
    referenceResizer: resample === "bilinear" ? "torchvision" : "pillow",
  };
}

/** How images of any size become the pixels of a CLIP's vision tower: as the file beside its weights says. */
export function clipRecipe({ config, format, preprocessing }: ClipImageModel): PixelRecipe {
  return {
    ...recipeOf(preprocessing, config.vision.imageSize),
    ...(format === "transformers" && ofTransformers(preprocessing)),
  };
}

/** The L2-normalised image embedding [B, D] of pixels [B, 3, size, size] in [0, 1]. */
export function imageDirection(b: Builder, pixels: Value, model: ClipImageModel): Value {
  const s = new WeightScope(b, model.weights);
  const seen = normalise(b, pixels, model.preprocessing);
  return normalised(b, clipImageEmbedding(s, seen, model.config));
}

/** The cosine of image and prompt in a CLIP's joint space, times `factor`: what three of the rewards are made of. */
export function clipScore(
  model: ClipModel,
  { factor, tokenizer, files = "reference" }: {
    readonly factor: number;
    readonly files?: "tensor" | "reference";
    readonly tokenizer: string | undefined;
  },
): RewardDefinition {
  const { config, format, source } = model;
  const codec = openTextCodec({ tokenizer, modelFolder: model.folder }, {
    ...config.text,
    layout: format === "open_clip" ? "open_clip" : "hf",
  });
  const text: TextDefinition = {
    ...codec,
    embed: (b, ids) =>
      normalised(b, clipTextEmbedding(new WeightScope(b, model.weights), ids, config)),
  };
  return {
    direction: "maximise",
    range: [-factor, factor],
    recipe: { ...clipRecipe(model), files },
    text,
    score: (b, pixels, direction) => {
      if (direction === undefined) throw new RangeError("A CLIP score needs a text embedding");
      const products = b.mul(imageDirection(b, pixels, model), direction);
      const cosine = b.sum(products, { axes: [1], keepDims: false });
      return factor === 1 ? cosine : b.mul(cosine, factor);
    },
    weightsRoot: source.root,
    warnings: model.warnings,
    identity: async () => ({
      fit: clipRecipe(model).fit,
      factor,
      config,
      weights: await source.digest(),
      tokenizer: codec.digest,
      ...preprocessingIdentity(model),
    }),
  };
}

/** What is done to an image, where it is not what OpenAI's CLIP does: digests of other rewards stay as they were. */
export function preprocessingIdentity(
  { config, preprocessing }: ClipImageModel,
): { readonly preprocessing?: ImagePreprocessing } {
  const usual = { ...clipPreprocessing(config.vision.imageSize), resize: preprocessing.resize };
  return isDeepStrictEqual(preprocessing, usual) ? {} : { preprocessing };
}

function normalised(b: Builder, x: Value): Value {
  return b.div(x, b.l2Norm(x, { axes: [1] }));
}
