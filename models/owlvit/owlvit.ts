import { join } from "node:path";
import { int, type Value } from "../../autodiff/mod.ts";
import {
  type ClipConfig,
  clipPreprocessing,
  clipText,
  clipTextProjection,
  clipVision,
  type ImagePreprocessing,
  readPreprocessing,
} from "../clip/mod.ts";
import { readJsonObject } from "../config.ts";
import { layerNorm, linear } from "../nn.ts";
import type { WeightScope } from "../weight_scope.ts";
import { openWeights, type OpenWeightsOptions, type WeightSource } from "../weights/mod.ts";
import { parseOwlVitConfig } from "./owlvit_config.ts";

/** An OWL-ViT on disk. */
export interface OwlVitModel {
  readonly config: ClipConfig;
  readonly source: WeightSource;
  /** What the processor's file beside the weights says; see `readPreprocessing`. */
  readonly preprocessing: ImagePreprocessing;
}

/** What OWL-ViT's own processor does to an image: both sides are resized, whatever the aspect. */
export function owlVitPreprocessing({ vision }: ClipConfig): ImagePreprocessing {
  return { ...clipPreprocessing(vision.imageSize), resize: "stretch" };
}

/**
 * Opens a folder of transformers' `OwlViTForObjectDetection`: `config.json` and weights. Throws `WeightsError` or
 * `ConfigError` naming the file. Digests are remembered in `cacheDir`, if given.
 */
export async function openOwlVit(
  folder: string,
  options: Pick<OpenWeightsOptions, "cacheDir"> = {},
): Promise<OwlVitModel> {
  const configPath = join(folder, "config.json");
  const config = parseOwlVitConfig(await readJsonObject(configPath), configPath);
  return {
    config,
    source: await openWeights(folder, { ...options, asFloat32: true }),
    preprocessing: await readPreprocessing(folder, {
      imageSize: config.vision.imageSize,
      otherwise: owlVitPreprocessing(config),
      processor: "OwlViT",
    }),
  };
}

/** The embedding of a query, [B, width], L2-normalised; `ids` are int64 [B, N]. `s` is the whole model's scope. */
export function owlVitQuery(s: WeightScope, ids: Value, { text }: ClipConfig): Value {
  const { b } = s;
  const tower = s.at("owlvit");
  const { pooled } = clipText(tower.at("text_model"), ids, text);
  const embedding = clipTextProjection(tower, pooled, text);
  return b.div(embedding, b.l2Norm(embedding, { axes: [-1] }));
}

/** What a class logit is of. */
export interface OwlVitSeen {
  /** Normalised, [B, 3, size, size]. */
  readonly pixels: Value;
  /** Embeddings [B, width], one for each image. */
  readonly query: Value;
}

/**
 * The class logit of one query per image for every patch, [B, patches]. A patch is its token times the class token, both
 * after the tower's final normalization, normalised again; its logit is
 * (cos(dense0(x), query) + shift(x)) (ELU(scale(x)) + 1).
 */
export function owlVitLogits(s: WeightScope, seen: OwlVitSeen, config: ClipConfig): Value {
  const tokens = clipVision(s.at("owlvit.vision_model"), seen.pixels, { config: config.vision });
  return classLogits(s, { tokens, query: seen.query }, config);
}

/**
 * The greatest of `owlVitLogits` of each image, [B]; of equal ones the first. Gradients flow through its patch and the
 * class token alone, so the last block and the head have next to none to compute.
 */
export function owlVitTopLogit(s: WeightScope, seen: OwlVitSeen, config: ClipConfig): Value {
  const { b } = s;
  const { query } = seen;
  const [batch = 1] = query.shape;
  const lastTokens = (tokens: Value) => {
    const logits = classLogits(s, { tokens, query }, config);
    const best = b.call("ArgMax", [logits], { axis: int(1), keepdims: int(1) });
    return b.concat([b.expand(b.ints([0]), [batch, 1]), b.add(best, 1)], 1);
  };
  const vision = s.at("owlvit.vision_model");
  const tokens = clipVision(vision, seen.pixels, { config: config.vision, lastTokens });
  return b.reshape(classLogits(s, { tokens, query }, config), [batch]);
}

/** Logits [B, N - 1] of tokens [B, N, width], the class token first, before the tower's final normalization. */
function classLogits(
  s: WeightScope,
  { tokens, query }: { readonly tokens: Value; readonly query: Value },
  { vision, text }: ClipConfig,
): Value {
  const { b } = s;
  const tower = s.at("owlvit.vision_model");
  const normed = layerNorm(tower.at("post_layernorm"), tokens, vision.epsilon);
  const [batch = 1, count = 1] = normed.shape;
  const [classToken, patches] = b.split(normed, [1, count - 1], 1);
  if (classToken === undefined || patches === undefined) {
    throw new RangeError("Split has 2 outputs");
  }
  const x = layerNorm(s.at("layer_norm"), b.mul(patches, classToken), vision.epsilon);
  const head = s.at("class_head");
  const cosine = b.matMul(
    unit(b, linear(head.at("dense0"), x, text.width)),
    b.reshape(unit(b, query), [batch, text.width, 1]),
  );
  const shift = linear(head.at("logit_shift"), x, 1);
  const scale = b.add(b.elu(linear(head.at("logit_scale"), x, 1)), 1);
  return b.reshape(b.mul(b.add(cosine, shift), scale), [batch, count - 1]);
}

/** x / (‖x‖ + 1e-6), as OWL-ViT writes it. */
function unit(b: WeightScope["b"], x: Value): Value {
  return b.div(x, b.add(b.l2Norm(x, { axes: [-1] }), 1e-6));
}
