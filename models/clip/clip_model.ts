import { existsSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import type { Value } from "../../autodiff/mod.ts";
import { readJsonObject } from "../config.ts";
import { WeightScope, type WeightTable } from "../weight_scope.ts";
import {
  chooseWeightFile,
  openTorchFile,
  openWeights,
  toFloat32,
  WeightsError,
  type WeightSource,
} from "../weights/mod.ts";
import type { ClipActivation } from "./blocks.ts";
import { type ClipConfig, parseClipConfig } from "./clip_config.ts";
import { inferOpenClipConfig, parseOpenClipConfig } from "./open_clip_config.ts";
import { openClipWeights } from "./open_clip_weights.ts";
import { clipText, clipTextProjection } from "./text.ts";
import { clipVisionPooled } from "./vision.ts";

/** A CLIP on disk, its towers and projections under transformers' names whatever it is stored as. */
export interface ClipModel {
  readonly format: "transformers" | "open_clip";
  readonly config: ClipConfig;
  readonly weights: WeightTable;
  readonly source: WeightSource;
  /** Folder of the model's files: where its tokenizer lies, if anywhere. */
  readonly folder: string;
  /** exp(logit_scale): what CLIP multiplies cosines by. */
  readonly logitScale: number;
}

/** Options of `openClip`. */
export interface OpenClipOptions {
  /** An open_clip model configuration; default: see `openClip`. */
  readonly config?: string;
  /** Activation of an open_clip model without a configuration. Default "gelu". */
  readonly activation?: ClipActivation;
  /** Folder in which PyTorch files are kept converted; without it they are refused. */
  readonly cacheDir?: string;
}

/**
 * Opens a folder of transformers' `CLIPModel` (`config.json` and weights), or an open_clip checkpoint: a file, or a
 * folder with one, whose weights may lie under `state_dict`. The configuration of the latter is the file given, or
 * one beside the checkpoint under its name with `.json` or under `open_clip_config.json`, or is inferred from the
 * shapes (`inferOpenClipConfig`). Throws `WeightsError` or `ConfigError` naming the file.
 */
export async function openClip(path: string, options: OpenClipOptions = {}): Promise<ClipModel> {
  const file = chooseWeightFile(path);
  const folder = dirname(file);
  const source = await openStateDict(file, options);
  const isOpenClip = source.has("visual.conv1.weight");
  if (!isOpenClip && !source.has("vision_model.embeddings.class_embedding")) {
    throw new WeightsError(
      file,
      "holds neither vision_model.embeddings.class_embedding (transformers' CLIPModel) nor " +
        "visual.conv1.weight (open_clip)",
    );
  }
  const config = isOpenClip
    ? await openClipConfig(file, source, options)
    : await transformersConfig(options.config ?? join(folder, "config.json"));
  const weights = isOpenClip ? openClipWeights(source) : source;
  for (const [tower, { layers }] of [["vision", config.vision], ["text", config.text]] as const) {
    if (weights.has(`${tower}_model.encoder.layers.${layers}.layer_norm1.weight`)) {
      throw new WeightsError(
        file,
        `has more than the ${layers} ${tower} layers of its configuration`,
      );
    }
  }
  const [logScale = 0] = toFloat32(await source.read("logit_scale")).data;
  return {
    format: isOpenClip ? "open_clip" : "transformers",
    config,
    weights,
    source,
    folder,
    logitScale: Math.exp(logScale),
  };
}

async function transformersConfig(path: string): Promise<ClipConfig> {
  return parseClipConfig(await readJsonObject(path), path);
}

/** Checkpoints keep their weights under `state_dict` where they hold more than weights. */
async function openStateDict(path: string, { cacheDir }: OpenClipOptions): Promise<WeightSource> {
  const isNested = !/\.(json|safetensors)$/.test(path) &&
    [...openTorchFile(path).tensors.keys()].some((name) => name.startsWith("state_dict."));
  return await openWeights(path, {
    asFloat32: true,
    ...(cacheDir === undefined ? {} : { cacheDir }),
    ...(isNested ? { key: "state_dict" } : {}),
  });
}

async function openClipConfig(
  file: string,
  source: WeightSource,
  options: OpenClipOptions,
): Promise<ClipConfig> {
  const beside = [
    join(dirname(file), `${basename(file, extname(file))}.json`),
    join(dirname(file), "open_clip_config.json"),
  ];
  const found = options.config ?? beside.find((path) => existsSync(path));
  if (found !== undefined) return parseOpenClipConfig(await readJsonObject(found), found);
  const { activation } = options;
  return inferOpenClipConfig(source, activation === undefined ? {} : { activation });
}

/** The image embedding [B, projectionDim] of normalised pixels [B, 3, size, size], not normalised. */
export function clipImageEmbedding(s: WeightScope, pixels: Value, config: ClipConfig): Value {
  const { vision, projectionDim } = config;
  const pooled = clipVisionPooled(s.at("vision_model"), pixels, vision);
  return s.b.linear(pooled, s.get("visual_projection.weight", [projectionDim, vision.width]));
}

/** The text embedding [B, projectionDim] of token ids [B, N], not normalised. */
export function clipTextEmbedding(s: WeightScope, ids: Value, { text }: ClipConfig): Value {
  return clipTextProjection(s, clipText(s.at("text_model"), ids, text).pooled, text);
}
