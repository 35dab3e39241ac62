import { z } from "zod";
import type { Builder, Value } from "../../autodiff/mod.ts";
import {
  clipImageEmbedding,
  type ClipModel,
  clipTextEmbedding,
  openClip,
} from "../../models/clip/mod.ts";
import { WeightScope } from "../../models/mod.ts";
import { openTextCodec } from "../_open_text.ts";
import type { RewardProgram, TextProgram } from "../_program.ts";
import { nameField, type OpenContext } from "../_reward_kind.ts";
import { clipNormalise } from "../preprocess/mod.ts";

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

/** Opens the CLIP that the fields name. */
export async function openClipOf(
  { weights, config, activation }: {
    readonly weights: string;
    readonly config?: string | undefined;
    readonly activation?: "gelu" | "quick_gelu" | undefined;
  },
  { resolve, cacheDir }: OpenContext,
): Promise<ClipModel> {
  return await openClip(resolve(weights), {
    cacheDir,
    ...(config === undefined ? {} : { config: resolve(config) }),
    ...(activation === undefined ? {} : { activation }),
  });
}

/** The L2-normalised image embedding [B, D] of pixels [B, 3, size, size] in [0, 1]. */
export function imageDirection(b: Builder, pixels: Value, model: ClipModel): Value {
  const s = new WeightScope(b, model.weights);
  return normalised(b, clipImageEmbedding(s, clipNormalise(b, pixels), model.config));
}

/** The cosine of image and prompt in a CLIP's joint space, times `factor`: what three of the rewards are made of. */
export function clipScore(
  model: ClipModel,
  { fit, factor, tokenizer, files = "reference" }: {
    readonly fit: "crop" | "pad";
    readonly files?: "tensor" | "reference";
    readonly factor: number;
    readonly tokenizer: string | undefined;
  },
): RewardProgram {
  const { config, format, source } = model;
  const codec = openTextCodec({ tokenizer, modelFolder: model.folder }, {
    ...config.text,
    layout: format === "open_clip" ? "open_clip" : "hf",
  });
  const text: TextProgram = {
    ...codec,
    embed: (b, ids) =>
      normalised(b, clipTextEmbedding(new WeightScope(b, model.weights), ids, config)),
  };
  return {
    direction: "maximise",
    range: [-factor, factor],
    recipe: {
      fit,
      size: config.vision.imageSize,
      files,
      referenceCrop: format === "open_clip" ? "torchvision" : "transformers",
    },
    text,
    score: (b, pixels, direction) => {
      if (direction === undefined) throw new RangeError("A CLIP score needs a text embedding");
      const products = b.mul(imageDirection(b, pixels, model), direction);
      const cosine = b.sum(products, { axes: [1], keepDims: false });
      return factor === 1 ? cosine : b.mul(cosine, factor);
    },
    weightsRoot: source.root,
    identity: async () => ({
      fit,
      factor,
      config,
      weights: await source.digest(),
      tokenizer: codec.digest,
    }),
  };
}

function normalised(b: Builder, x: Value): Value {
  return b.div(x, b.l2Norm(x, { axes: [1] }));
}
