import { join } from "node:path";
import { z } from "zod";
import { parseClipTextConfig } from "../clip/mod.ts";
import { ConfigError, inert, only } from "../config.ts";
import {
  givenChannels,
  parseFlux2VaeConfig,
  parseVaeConfig,
  type Part,
  type VaeConfig,
} from "../diffusers/mod.ts";
import { parseQwen3Config } from "../qwen3/mod.ts";
import { parseT5Config } from "../t5/mod.ts";
import { flux2Transformer } from "./flux2.ts";
import { parseFlux2Config } from "./flux2_config.ts";
import { fluxTransformer } from "./flux.ts";
import { parseFluxConfig } from "./flux_config.ts";
import { sd3Transformer } from "./sd3.ts";
import { parseSD3Config } from "./sd3_config.ts";
import type { TextEncoder } from "./text_graphs.ts";
import type { FlowTransformer } from "./transformer.ts";
import { zImageTransformer } from "./z_image.ts";
import { parseZImageConfig } from "./z_image_config.ts";

/** Classes of diffusers' flow pipelines that are built here, and what they go by. */
export const CLASSES = {
  StableDiffusion3Pipeline: "sd3",
  FluxPipeline: "flux",
  Flux2KleinPipeline: "flux2",
  ZImagePipeline: "zimage",
} as const;

/** Families of flow pipelines. */
export type FlowKind = typeof CLASSES[keyof typeof CLASSES];

/** What is particular to a family. */
export interface FlowParts {
  readonly transformer: FlowTransformer;
  /** Width of the text states that the transformer reads. */
  readonly textWidth: number;
  readonly vae: Part<VaeConfig>;
  /** In the order of diffusers' pipeline. */
  readonly encoders: readonly TextEncoder[];
}

/** What a family's reader is given. */
export interface FamilyFolder {
  /** Absolute. */
  readonly root: string;
  /** Fields of `model_index.json` that `INDEXES` has checked. */
  readonly index: Readonly<Record<string, unknown>>;
  /** Reads a part of the pipeline. */
  read<C>(
    name: string,
    parse: (value: Record<string, unknown>, path: string) => C,
  ): Promise<Part<C>>;
}

/** A part's entry of model_index.json, [library, class]. */
const part = (library: string, ...classes: readonly string[]) =>
  z.tuple([only(library), only(...classes)], `${library}'s ${classes.join(" or ")}`);
const absent = z.tuple([z.null(), z.null()]);
const clipTokenizer = part("transformers", "CLIPTokenizer", "CLIPTokenizerFast");
const t5Tokenizer = part("transformers", "T5Tokenizer", "T5TokenizerFast");
const qwenTokenizer = part("transformers", "Qwen2Tokenizer", "Qwen2TokenizerFast");
const projected = part("transformers", "CLIPTextModelWithProjection");
const vae = part("diffusers", "AutoencoderKL");
const SHARED = {
  // No images are read.
  ...inert("feature_extractor", "image_encoder"),
  scheduler: z.tuple([only("diffusers"), z.string()], "diffusers' scheduler"),
};

/** What each family's `model_index.json` must hold. */
export const INDEXES = {
  sd3: z.strictObject({
    ...SHARED,
    text_encoder: projected,
    text_encoder_2: projected,
    text_encoder_3: z.union([part("transformers", "T5EncoderModel"), absent]).default([null, null]),
    tokenizer: clipTokenizer,
    tokenizer_2: clipTokenizer,
    tokenizer_3: z.union([t5Tokenizer, absent]).default([null, null]),
    transformer: part("diffusers", "SD3Transformer2DModel"),
    vae,
  }),
  flux: z.strictObject({
    ...SHARED,
    text_encoder: part("transformers", "CLIPTextModel"),
    text_encoder_2: part("transformers", "T5EncoderModel"),
    tokenizer: clipTokenizer,
    tokenizer_2: t5Tokenizer,
    transformer: part("diffusers", "FluxTransformer2DModel"),
    vae,
  }),
  flux2: z.strictObject({
    ...SHARED,
    ...inert("is_distilled"),
    text_encoder: part("transformers", "Qwen3ForCausalLM", "Qwen3Model"),
    tokenizer: qwenTokenizer,
    transformer: part("diffusers", "Flux2Transformer2DModel"),
    vae: part("diffusers", "AutoencoderKLFlux2"),
  }),
  zimage: z.strictObject({
    ...SHARED,
    text_encoder: part("transformers", "Qwen3Model", "Qwen3ForCausalLM"),
    tokenizer: qwenTokenizer,
    transformer: part("diffusers", "ZImageTransformer2DModel"),
    vae,
  }),
};

/** Reads what is particular to a family and checks that its parts fit one another. */
export const FAMILIES: Readonly<Record<FlowKind, (folder: FamilyFolder) => Promise<FlowParts>>> = {
  sd3: readSD3,
  flux: readFlux,
  flux2: readFlux2,
  zimage: readZImage,
};

async function readSD3(folder: FamilyFolder): Promise<FlowParts> {
  const found = await folder.read("transformer", parseSD3Config);
  const encoders: TextEncoder[] = [
    await clipOf(folder, { suffix: "", isProjected: true }),
    await clipOf(folder, { suffix: "_2", isProjected: true }),
  ];
  if (JSON.stringify(folder.index.text_encoder_3) !== "[null,null]") {
    encoders.push(await t5Of(folder, "_3"));
  }
  const vae = await folder.read("vae", parseVaeConfig);
  const { channels, textWidth, pooledWidth } = found.config;
  const check = checkOf(folder);
  check("in_channels", channels, givenChannels(vae.config), "latent_channels of the VAE");
  const pooled = encoders.reduce(
    (sum, { kind, part }) => sum + (kind === "clip" ? part.config.projectionDim : 0),
    0,
  );
  check("pooled_projection_dim", pooledWidth, pooled, "projection_dim of both CLIP encoders");
  for (const { kind, part } of encoders) {
    if (kind !== "t5") continue;
    check("joint_attention_dim", textWidth, part.config.width, "d_model of text_encoder_3");
  }
  return { transformer: sd3Transformer(found), textWidth, vae, encoders };
}

async function readFlux(folder: FamilyFolder): Promise<FlowParts> {
  const found = await folder.read("transformer", parseFluxConfig);
  const clip = await clipOf(folder, { suffix: "", isProjected: false });
  const t5 = await t5Of(folder, "_2");
  const vae = await folder.read("vae", parseVaeConfig);
  const { packedChannels, textWidth, pooledWidth } = found.config;
  const check = checkOf(folder);
  const channels = 4 * givenChannels(vae.config);
  check("in_channels", packedChannels, channels, "four times latent_channels of the VAE");
  check("pooled_projection_dim", pooledWidth, clip.part.config.width, "hidden_size of CLIP");
  check("joint_attention_dim", textWidth, t5.part.config.width, "d_model of text_encoder_2");
  return { transformer: fluxTransformer(found), textWidth, vae, encoders: [clip, t5] };
}

async function readFlux2(folder: FamilyFolder): Promise<FlowParts> {
  const found = await folder.read("transformer", parseFlux2Config);
  const qwen = await qwenOf(folder);
  const vae = await folder.read("vae", parseFlux2VaeConfig);
  const { channels, textWidth } = found.config;
  const check = checkOf(folder);
  check("in_channels", channels, givenChannels(vae.config), "patches of the VAE's latents");
  const width = 3 * qwen.part.config.width;
  check("joint_attention_dim", textWidth, width, "three times hidden_size of text_encoder");
  return { transformer: flux2Transformer(found), textWidth, vae, encoders: [qwen] };
}

async function readZImage(folder: FamilyFolder): Promise<FlowParts> {
  const found = await folder.read("transformer", parseZImageConfig);
  const qwen = await qwenOf(folder);
  const vae = await folder.read("vae", parseVaeConfig);
  const { channels, textWidth } = found.config;
  const check = checkOf(folder);
  check("in_channels", channels, givenChannels(vae.config), "latent_channels of the VAE");
  check("cap_feat_dim", textWidth, qwen.part.config.width, "hidden_size of text_encoder");
  return { transformer: zImageTransformer(found), textWidth, vae, encoders: [qwen] };
}

async function clipOf(
  { root, read }: FamilyFolder,
  { suffix, isProjected }: { readonly suffix: string; readonly isProjected: boolean },
) {
  const part = await read(`text_encoder${suffix}`, parseClipTextConfig);
  return { kind: "clip", part, tokenizer: join(root, `tokenizer${suffix}`), isProjected } as const;
}

async function t5Of({ root, read }: FamilyFolder, suffix: string) {
  const part = await read(`text_encoder${suffix}`, parseT5Config);
  return { kind: "t5", part, tokenizer: join(root, `tokenizer${suffix}`) } as const;
}

async function qwenOf({ root, read }: FamilyFolder) {
  const part = await read("text_encoder", parseQwen3Config);
  return { kind: "qwen3", part, tokenizer: join(root, "tokenizer") } as const;
}

/** What one part gives, the transformer must take. */
function checkOf({ root }: FamilyFolder) {
  const path = join(root, "transformer", "config.json");
  return (field: string, found: number, expected: number, why: string): void => {
    if (found === expected) return;
    throw new ConfigError(path, `"${field}" is ${found}, expected ${expected}, ${why}`);
  };
}
