import { join, resolve } from "node:path";
import { z } from "zod";
import { type ClipTextConfig, parseClipTextConfig } from "../clip/mod.ts";
import { ConfigError, inert, only, parseConfig, readJsonObject } from "../config.ts";
import { openWeights, type OpenWeightsOptions, type WeightSource } from "../weights/mod.ts";
import { parseUNetConfig, type UNetConfig } from "./unet_config.ts";
import { parseVaeConfig, type VaeConfig } from "./vae_config.ts";

/** One network of a pipeline: what it is and where its weights lie. */
export interface Part<Config> {
  readonly config: Config;
  readonly weights: WeightSource;
}

/** A scheduler's configuration as its file holds it: samplers decide what they can do. */
export interface SchedulerFile {
  readonly path: string;
  /** As "DDPMScheduler". */
  readonly className: string;
  /** As "StableDiffusionPipeline": some correct what the file says. */
  readonly pipelineClass?: string;
  readonly config: Readonly<Record<string, unknown>>;
}

/** A text-to-image pipeline on disk. */
export interface Pipeline {
  /** Absolute. */
  readonly folder: string;
  /** Stable Diffusion 1 or 2, or XL. */
  readonly kind: "sd" | "sdxl";
  readonly unet: Part<UNetConfig>;
  readonly vae: Part<VaeConfig>;
  /** One, or SDXL's two, the second with a projection. */
  readonly textEncoders: readonly Part<ClipTextConfig>[];
  /** The folder of each text encoder's tokenizer. */
  readonly tokenizers: readonly string[];
  readonly scheduler: SchedulerFile;
  /** Whether the unconditional branch takes zeros for an empty prompt instead of its encoding. */
  readonly forceZerosForEmptyPrompt: boolean;
}

const CLASSES = { StableDiffusionPipeline: "sd", StableDiffusionXLPipeline: "sdxl" } as const;

/** A part's entry of model_index.json, [library, class]. */
const part = (library: string, ...classes: readonly string[]) =>
  z.tuple([only(library), only(...classes)], `${library}'s ${classes.join(" or ")}`);

const tokenizer = part("transformers", "CLIPTokenizer", "CLIPTokenizerFast");
const SHARED = {
  // Nothing here is checked for safety or prompted by images, so these parts are not read.
  ...inert("feature_extractor", "image_encoder", "requires_safety_checker", "safety_checker"),
  scheduler: z.tuple([only("diffusers"), z.string()], "diffusers' scheduler"),
  text_encoder: part("transformers", "CLIPTextModel", "CLIPTextModelWithProjection"),
  tokenizer,
  unet: part("diffusers", "UNet2DConditionModel"),
  vae: part("diffusers", "AutoencoderKL"),
};
const INDEX = {
  sd: z.strictObject(SHARED),
  sdxl: z.strictObject({
    ...SHARED,
    ...inert("add_watermarker"),
    text_encoder_2: part("transformers", "CLIPTextModelWithProjection"),
    tokenizer_2: tokenizer,
    force_zeros_for_empty_prompt: z.boolean("true or false").default(true),
  }),
};

/**
 * Reads a diffusers folder: `model_index.json`, each part's `config.json` and the headers of its weights, single or
 * sharded safetensors of any float dtype. `variant` is diffusers' ("fp16" in `model.fp16.safetensors`).
 *
 * Throws `ConfigError` naming file, field, what was found and what was expected where a file asks for what is not
 * done here or parts do not fit one another, and `WeightsError` for weight files.
 */
export async function readPipeline(
  folder: string,
  { variant }: { readonly variant?: string } = {},
): Promise<Pipeline> {
  const root = resolve(folder);
  const indexPath = join(root, "model_index.json");
  const index = await readJsonObject(indexPath);
  const name = z.enum(["StableDiffusionPipeline", "StableDiffusionXLPipeline"])
    .safeParse(index._class_name);
  if (!name.success) {
    const found = JSON.stringify(index._class_name) ?? "missing";
    const expected = Object.keys(CLASSES).join(" or ");
    throw new ConfigError(indexPath, `"_class_name" is ${found}, expected ${expected}`);
  }
  const kind = CLASSES[name.data];
  const parts = parseConfig(INDEX[kind], index, indexPath);
  const second = kind === "sdxl" ? ["_2"] : [];
  const options = variant === undefined ? {} : { variant };
  const read = <C>(name: string, parse: (value: Record<string, unknown>, path: string) => C) =>
    readPart(join(root, name), { parse, options });

  const unet = await read("unet", parseUNetConfig);
  const vae = await read("vae", parseVaeConfig);
  const textEncoders: Part<ClipTextConfig>[] = [];
  for (const suffix of ["", ...second]) {
    textEncoders.push(await read(`text_encoder${suffix}`, parseClipTextConfig));
  }
  checkFit(root, { kind, unet: unet.config, vae: vae.config, texts: textEncoders });
  const schedulerPath = join(root, "scheduler", "scheduler_config.json");
  return {
    folder: root,
    kind,
    unet,
    vae,
    textEncoders,
    tokenizers: ["", ...second].map((suffix) => join(root, `tokenizer${suffix}`)),
    scheduler: {
      path: schedulerPath,
      className: parts.scheduler[1],
      pipelineClass: name.data,
      config: await readJsonObject(schedulerPath),
    },
    forceZerosForEmptyPrompt: "force_zeros_for_empty_prompt" in parts &&
      parts.force_zeros_for_empty_prompt,
  };
}

/** A part of a pipeline in a folder of its own, whose `config.json` `parse` reads. */
export async function readPart<C>(
  folder: string,
  { parse, options }: {
    parse: (value: Record<string, unknown>, path: string) => C;
    options: OpenWeightsOptions;
  },
): Promise<Part<C>> {
  const path = join(folder, "config.json");
  const config = parse(await readJsonObject(path), path);
  return { config, weights: await openWeights(folder, options) };
}

/** What one part gives, another must take. */
function checkFit(
  root: string,
  { kind, unet, vae, texts }: {
    kind: Pipeline["kind"];
    unet: UNetConfig;
    vae: VaeConfig;
    texts: readonly Part<ClipTextConfig>[];
  },
): void {
  const check = (field: string, found: unknown, expected: unknown, why: string) => {
    if (found === expected) return;
    const path = join(root, "unet", "config.json");
    throw new ConfigError(path, `"${field}" is ${found}, expected ${expected}, ${why}`);
  };
  const width = texts.reduce((sum, { config }) => sum + config.width, 0);
  check("in_channels", unet.inChannels, vae.latentChannels, "latent_channels of the VAE");
  check("out_channels", unet.outChannels, vae.latentChannels, "latent_channels of the VAE");
  // Pipelines of U-Nets do not add it.
  if (vae.shiftFactor !== 0) {
    const path = join(root, "vae", "config.json");
    throw new ConfigError(path, `"shift_factor" is ${vae.shiftFactor}, expected null`);
  }
  check("cross_attention_dim", unet.contextWidth, width, "hidden_size of the text encoders");
  check(
    "addition_embed_type",
    unet.textTime === undefined ? null : "text_time",
    kind === "sd" ? null : "text_time",
    "as in the pipeline's class",
  );
  if (unet.textTime !== undefined) {
    const pooled = texts.at(-1)?.config.projectionDim;
    check(
      "projection_class_embeddings_input_dim, less the sizes' part,",
      unet.textTime.textWidth,
      pooled,
      "projection_dim of text_encoder_2",
    );
  }
}
