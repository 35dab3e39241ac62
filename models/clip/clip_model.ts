import { existsSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { z } from "zod";
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
import {
  type ClipConfig,
  type ClipImageConfig,
  parseClipConfig,
  parseClipImageConfig,
} from "./clip_config.ts";
import {
  inferOpenClipConfig,
  inferOpenClipImageConfig,
  parseOpenClipConfig,
} from "./open_clip_config.ts";
import { parseOpenClipPreprocessing } from "./open_clip_preprocessing.ts";
import { clipPreprocessing, type ImagePreprocessing, readPreprocessing } from "./preprocessing.ts";
import { openClipWeights } from "./open_clip_weights.ts";
import { clipText, clipTextProjection } from "./text.ts";
import { clipVisionPooled } from "./vision.ts";

/** A CLIP's vision tower on disk, under transformers' names whatever it is stored as. */
export interface ClipImageModel {
  readonly format: "transformers" | "open_clip";
  readonly config: ClipImageConfig;
  readonly weights: WeightTable;
  readonly source: WeightSource;
  /** What the file beside the weights says that is done to an image; without one what OpenAI's CLIP does. */
  readonly preprocessing: ImagePreprocessing;
  /** What was assumed and may be wrong, a sentence each. */
  readonly warnings: readonly string[];
}

/** A CLIP on disk, its towers and projections under transformers' names whatever it is stored as. */
export interface ClipModel extends ClipImageModel {
  readonly config: ClipConfig;
  /** Folder of the model's files: where its tokenizer lies, if anywhere. */
  readonly folder: string;
  /** exp(logit_scale): what CLIP multiplies cosines by. */
  readonly logitScale: number;
}

/** Options of `openClip`. */
export interface OpenClipOptions {
  /** An open_clip model configuration; default: see `openClip`. */
  readonly config?: string;
  /** Activation of an open_clip model without a configuration. Default: see `openClip`. */
  readonly activation?: ClipActivation;
  /** Folder in which PyTorch files are kept converted; without it they are refused. */
  readonly cacheDir?: string;
}

/**
 * Opens a folder of transformers' `CLIPModel` (`config.json` and weights), or an open_clip checkpoint: a file, or a
 * folder with one, OpenAI's TorchScript archives among them. Names may stand under a prefix that a trainer or a wrapper
 * put before all of them (`state_dict.`, `module.`, `_orig_mod.`). The configuration of an open_clip checkpoint is the
 * file given, or one beside it under its name with `.json` or under `open_clip_config.json`, or is inferred from the
 * shapes (`inferOpenClipConfig`), with quick GELU where the file is OpenAI's. Throws `WeightsError` or `ConfigError`
 * naming the file.
 */
export async function openClip(path: string, options: OpenClipOptions = {}): Promise<ClipModel> {
  const { file, named, isOpenClip, ...opened } = await openTowers(path, options);
  if (!named.has(isOpenClip ? "token_embedding.weight" : TEXT_TOKENS)) {
    refuseOthers(named, { file, others: OTHER_TEXTS });
    throw new WeightsError(file, "holds a vision tower and no text tower, expected a whole CLIP");
  }
  const found = isOpenClip ? await openClipConfig(file, options) : undefined;
  const { activation, warnings } = assumedActivation(named, {
    ...opened,
    isOpenClip,
    found,
    options,
  });
  const config = !isOpenClip
    ? await transformersConfig(file, options, parseClipConfig)
    : found === undefined
    ? inferOpenClipConfig(named, { activation })
    : parseOpenClipConfig(found.value, found.path);
  const model = {
    config,
    ...await imageModel(config, { file, named, isOpenClip, found, warnings }),
  };
  checkLayers(model.weights, { file, tower: "text", layers: config.text.layers });
  const [logScale = 0] = toFloat32(await named.read("logit_scale")).data;
  return { ...model, folder: dirname(file), logitScale: Math.exp(logScale) };
}

/** As `openClip`, of which the vision tower is read; the file may hold that tower alone, with its projection. */
export async function openClipImage(
  path: string,
  options: OpenClipOptions = {},
): Promise<ClipImageModel> {
  const { file, named, isOpenClip, ...opened } = await openTowers(path, options);
  const found = isOpenClip ? await openClipConfig(file, options) : undefined;
  const { activation, warnings } = assumedActivation(named, {
    ...opened,
    isOpenClip,
    found,
    options,
  });
  const config = !isOpenClip
    ? await transformersConfig(
      file,
      options,
      (value, path) =>
        value["model_type"] === "clip_vision_model"
          ? parseClipImageConfig(value, path)
          : parseClipConfig(value, path),
    )
    : found === undefined
    ? inferOpenClipImageConfig(named, { activation })
    : parseOpenClipConfig(found.value, found.path);
  return { config, ...await imageModel(config, { file, named, isOpenClip, found, warnings }) };
}

/** The first names of the layouts' vision towers, and of the text tower of transformers'. */
const [OPEN_CLIP, TRANSFORMERS, TEXT_TOKENS] = [
  "visual.conv1.weight",
  "vision_model.embeddings.class_embedding",
  "text_model.embeddings.token_embedding.weight",
];

/** Towers that are not read, by names that only they have. */
const OTHER_TOWERS: readonly (readonly [RegExp, string])[] = [
  [/(?:^|\.)visual\.layer1\./, "a CLIP whose image tower is a ResNet (RN50 and its kin)"],
  [/(?:^|\.)visual\.trunk\./, "a CLIP whose image tower is timm's (ConvNeXt, SigLIP, EVA)"],
  [/(?:^|\.)vision_model\.head\.attention\.|(?:^|\.)logit_bias$/, "a SigLIP"],
];
const OTHER_TEXTS: readonly (readonly [RegExp, string])[] = [
  [/(?:^|\.)text\.transformer\.embeddings\./, "a CLIP whose text tower is Hugging Face's"],
  [/(?:^|\.)text_decoder\.|(?:^|\.)text\.cls_emb$/, "a CoCa"],
  [/(?:^|\.)text\.token_embedding\./, "a CLIP with a text tower of its own (custom_text)"],
];

function refuseOthers(
  source: WeightSource,
  { file, others }: { readonly file: string; readonly others: typeof OTHER_TOWERS },
): void {
  const found = others.find(([pattern]) => source.names().some((name) => pattern.test(name)));
  if (found === undefined) return;
  throw new WeightsError(
    file,
    `holds ${found[1]}; expected towers of CLIP's own kind, as ViT-B-32, ViT-L-14 or ViT-H-14`,
  );
}

/** What OpenAI's own files hold beside weights. */
const OF_OPENAI = ["input_resolution", "context_length", "vocab_size"];

interface Towers {
  readonly file: string;
  /** The weights by their names without a prefix. */
  readonly named: WeightSource;
  readonly isOpenClip: boolean;
  /** Whether OpenAI wrote the file, as what it holds beside weights shows. */
  readonly isOpenAi: boolean;
}

async function openTowers(path: string, { cacheDir }: OpenClipOptions): Promise<Towers> {
  const file = chooseWeightFile(path);
  const torch = /\.(json|safetensors)$/.test(file) ? undefined : openTorchFile(file);
  // Checkpoints keep their weights under `state_dict` where they hold more than weights.
  const isNested = [...torch?.tensors.keys() ?? []].some((name) => name.startsWith("state_dict."));
  const source = await openWeights(file, {
    asFloat32: true,
    ...(cacheDir === undefined ? {} : { cacheDir }),
    ...(isNested ? { key: "state_dict" } : {}),
  });
  refuseOthers(source, { file, others: OTHER_TOWERS });
  const names = source.names();
  const found = [OPEN_CLIP, TRANSFORMERS].flatMap((first) =>
    names.filter((name) => name === first || name.endsWith(`.${first}`)).map((name) => ({
      first,
      prefix: name.slice(0, -first.length),
    }))
  );
  const [only, second] = found;
  if (only === undefined) {
    throw new WeightsError(
      file,
      `holds neither ${TRANSFORMERS} (transformers' CLIPModel) nor ${OPEN_CLIP} (open_clip)`,
    );
  }
  if (second !== undefined) {
    throw new WeightsError(
      file,
      `holds several CLIPs, under ${
        found.map((f) => JSON.stringify(f.prefix)).join(", ")
      }; expected one`,
    );
  }
  return {
    file,
    named: only.prefix === "" ? source : source.under(only.prefix),
    isOpenClip: only.first === OPEN_CLIP,
    isOpenAi: torch?.isScript === true || OF_OPENAI.every((name) => names.includes(name)),
  };
}

/** A configuration as it was read. */
interface Found {
  readonly path: string;
  readonly value: Readonly<Record<string, unknown>>;
}

async function transformersConfig<C>(
  file: string,
  options: OpenClipOptions,
  parse: (value: Readonly<Record<string, unknown>>, path: string) => C,
): Promise<C> {
  const path = options.config ?? join(dirname(file), "config.json");
  return parse(await readJsonObject(path), path);
}

async function openClipConfig(file: string, options: OpenClipOptions): Promise<Found | undefined> {
  const beside = [
    join(dirname(file), `${basename(file, extname(file))}.json`),
    join(dirname(file), "open_clip_config.json"),
  ];
  const path = options.config ?? beside.find((path) => existsSync(path));
  return path === undefined ? undefined : { path, value: await readJsonObject(path) };
}

/** Widths of towers that were published both by OpenAI, with quick GELU, and by others, with GELU. */
const AMBIGUOUS_WIDTHS: readonly (number | undefined)[] = [768, 1024];

/** The activation leaves no trace in weights: without a configuration it is a guess, said where it may be wrong. */
function assumedActivation(
  named: WeightSource,
  { isOpenClip, isOpenAi, found, options }: Pick<Towers, "isOpenClip" | "isOpenAi"> & {
    readonly found: Found | undefined;
    readonly options: OpenClipOptions;
  },
): { readonly activation: ClipActivation; readonly warnings: readonly string[] } {
  const { activation } = options;
  if (activation !== undefined) return { activation, warnings: [] };
  if (isOpenAi) return { activation: "quick_gelu", warnings: [] };
  const isGuess = isOpenClip && found === undefined &&
    AMBIGUOUS_WIDTHS.includes(named.get(OPEN_CLIP).shape[0]);
  const guess = "The checkpoint has no open_clip configuration beside it and GELU is assumed; " +
    "weights of OpenAI's and DFN's need activation: quick_gelu";
  return { activation: "gelu", warnings: isGuess ? [guess] : [] };
}

async function imageModel(
  { vision, projectionDim }: ClipImageConfig,
  { file, named, isOpenClip, found, warnings }: Pick<Towers, "file" | "named" | "isOpenClip"> & {
    readonly found: Found | undefined;
    readonly warnings: readonly string[];
  },
): Promise<Omit<ClipImageModel, "config">> {
  const weights = isOpenClip ? openClipWeights(named) : named;
  if (!weights.has("visual_projection.weight")) {
    throw new WeightsError(
      file,
      `holds no projection to the ${projectionDim} numbers of an embedding (visual_projection.weight)`,
    );
  }
  checkLayers(weights, { file, tower: "vision", layers: vision.layers });
  const { imageSize } = vision;
  const otherwise = clipPreprocessing(imageSize);
  const ofFound = z.record(z.string(), z.unknown()).safeParse(found?.value["preprocess_cfg"]);
  const preprocessing = !isOpenClip
    ? await readPreprocessing(dirname(file), { imageSize, otherwise })
    : found !== undefined && ofFound.success
    ? parseOpenClipPreprocessing(ofFound.data, { path: found.path, imageSize })
    : otherwise;
  return {
    format: isOpenClip ? "open_clip" : "transformers",
    weights,
    source: named,
    preprocessing,
    warnings,
  };
}

function checkLayers(
  weights: WeightTable,
  { file, tower, layers }: {
    readonly file: string;
    readonly tower: "vision" | "text";
    readonly layers: number;
  },
): void {
  if (!weights.has(`${tower}_model.encoder.layers.${layers}.layer_norm1.weight`)) return;
  throw new WeightsError(file, `has more than the ${layers} ${tower} layers of its configuration`);
}

/** The image embedding [B, projectionDim] of normalised pixels [B, 3, size, size], not normalised. */
export function clipImageEmbedding(s: WeightScope, pixels: Value, config: ClipImageConfig): Value {
  const { vision, projectionDim } = config;
  const pooled = clipVisionPooled(s.at("vision_model"), pixels, vision);
  return s.b.linear(pooled, s.get("visual_projection.weight", [projectionDim, vision.width]));
}

/** The text embedding [B, projectionDim] of token ids [B, N], not normalised. */
export function clipTextEmbedding(s: WeightScope, ids: Value, { text }: ClipConfig): Value {
  return clipTextProjection(s, clipText(s.at("text_model"), ids, text).pooled, text);
}
