import { join, resolve } from "node:path";
import { z } from "zod";
import { parseClipTextConfig } from "../clip/mod.ts";
import { ConfigError, inert, only, parseConfig, readJsonObject } from "../config.ts";
import {
  parseVaeConfig,
  type Part,
  readPart,
  type SchedulerFile,
  type VaeConfig,
} from "../diffusers/mod.ts";
import { parseT5Config } from "../t5/mod.ts";
import { sd3Transformer } from "./sd3.ts";
import { parseSD3Config } from "./sd3_config.ts";
import type { TextEncoder } from "./text_graphs.ts";
import type { FlowTransformer } from "./transformer.ts";

/** A text-to-image pipeline on disk whose transformer predicts a flow's velocity. */
export interface FlowPipeline {
  /** Absolute. */
  readonly folder: string;
  readonly kind: FlowKind;
  readonly transformer: FlowTransformer;
  /** Width of the text states that the transformer reads. */
  readonly textWidth: number;
  readonly vae: Part<VaeConfig>;
  /** In the order of diffusers' pipeline. */
  readonly encoders: readonly TextEncoder[];
  readonly scheduler: SchedulerFile;
}

const CLASSES = { StableDiffusion3Pipeline: "sd3" } as const;

/** Families of flow pipelines. */
export type FlowKind = typeof CLASSES[keyof typeof CLASSES];

/** A part's entry of model_index.json, [library, class]. */
const part = (library: string, ...classes: readonly string[]) =>
  z.tuple([only(library), only(...classes)], `${library}'s ${classes.join(" or ")}`);
const absent = z.tuple([z.null(), z.null()]);
const scheduler = z.tuple([only("diffusers"), z.string()], "diffusers' scheduler");
const clipTokenizer = part("transformers", "CLIPTokenizer", "CLIPTokenizerFast");
const projected = part("transformers", "CLIPTextModelWithProjection");

const SD3_INDEX = z.strictObject({
  ...inert("feature_extractor", "image_encoder"),
  scheduler,
  text_encoder: projected,
  text_encoder_2: projected,
  text_encoder_3: z.union([part("transformers", "T5EncoderModel"), absent]).default([null, null]),
  tokenizer: clipTokenizer,
  tokenizer_2: clipTokenizer,
  tokenizer_3: z.union([part("transformers", "T5Tokenizer", "T5TokenizerFast"), absent])
    .default([null, null]),
  transformer: part("diffusers", "SD3Transformer2DModel"),
  vae: part("diffusers", "AutoencoderKL"),
});

/** Whether a pipeline's class, of `model_index.json`, is one of a flow. */
export function isFlowClass(name: unknown): name is keyof typeof CLASSES {
  return typeof name === "string" && Object.hasOwn(CLASSES, name);
}

/**
 * Reads a diffusers folder of a flow pipeline: `model_index.json`, each part's `config.json` and the headers of its
 * weights, single or sharded safetensors of any float dtype. Throws as `readPipeline` does.
 */
export async function readFlowPipeline(
  folder: string,
  { variant }: { readonly variant?: string } = {},
): Promise<FlowPipeline> {
  const root = resolve(folder);
  const indexPath = join(root, "model_index.json");
  const index = await readJsonObject(indexPath);
  const { _class_name: name } = index;
  if (!isFlowClass(name)) {
    throw new ConfigError(
      indexPath,
      `"_class_name" is ${JSON.stringify(name) ?? "missing"}, expected ` +
        Object.keys(CLASSES).join(" or "),
    );
  }
  const options = variant === undefined ? {} : { variant };
  const read = <C>(name: string, parse: (value: Record<string, unknown>, path: string) => C) =>
    readPart(join(root, name), { parse, options });
  const tokenizer = (suffix: string) => join(root, `tokenizer${suffix}`);

  const parts = parseConfig(SD3_INDEX, index, indexPath);
  const transformer = await read("transformer", parseSD3Config);
  const encoders: TextEncoder[] = [];
  for (const suffix of ["", "_2"]) {
    encoders.push({
      kind: "clip",
      part: await read(`text_encoder${suffix}`, parseClipTextConfig),
      tokenizer: tokenizer(suffix),
      isProjected: true,
    });
  }
  if (parts.text_encoder_3[0] !== null) {
    const part = await read("text_encoder_3", parseT5Config);
    encoders.push({ kind: "t5", part, tokenizer: tokenizer("_3") });
  }
  const vae = await read("vae", parseVaeConfig);
  const config = join(root, "transformer", "config.json");
  const check = (field: string, found: number, expected: number, why: string) => {
    if (found === expected) return;
    throw new ConfigError(config, `"${field}" is ${found}, expected ${expected}, ${why}`);
  };
  const { channels, textWidth, pooledWidth } = transformer.config;
  check("in_channels", channels, vae.config.latentChannels, "latent_channels of the VAE");
  const pooled = encoders.reduce(
    (sum, { kind, part }) => sum + (kind === "clip" ? part.config.projectionDim : 0),
    0,
  );
  check("pooled_projection_dim", pooledWidth, pooled, "projection_dim of both CLIP encoders");
  for (const { kind, part } of encoders) {
    if (kind !== "t5") continue;
    check("joint_attention_dim", textWidth, part.config.width, "d_model of text_encoder_3");
  }
  const schedulerPath = join(root, "scheduler", "scheduler_config.json");
  return {
    folder: root,
    kind: CLASSES[name],
    transformer: sd3Transformer(transformer),
    textWidth,
    vae,
    encoders,
    scheduler: {
      path: schedulerPath,
      className: parts.scheduler[1],
      config: await readJsonObject(schedulerPath),
    },
  };
}
