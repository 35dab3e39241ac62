import { z } from "zod";
import { ConfigError, inert, only, parseConfig } from "../config.ts";
import type { Pipeline } from "./pipeline.ts";

/**
 * diffusers' classes whose parts draw pictures from text, whatever else they are for, and the kind that each is of. What
 * a class adds (an image to start from, guidance perturbed in its attention) is not done here.
 */
export const PIPELINE_CLASSES: Readonly<Record<string, Pipeline["kind"]>> = {
  LatentConsistencyModelImg2ImgPipeline: "sd",
  LatentConsistencyModelPipeline: "sd",
  StableDiffusionAttendAndExcitePipeline: "sd",
  StableDiffusionImg2ImgPipeline: "sd",
  StableDiffusionInpaintPipeline: "sd",
  StableDiffusionPAGImg2ImgPipeline: "sd",
  StableDiffusionPAGInpaintPipeline: "sd",
  StableDiffusionPAGPipeline: "sd",
  StableDiffusionPanoramaPipeline: "sd",
  StableDiffusionPipeline: "sd",
  StableDiffusionSAGPipeline: "sd",
  StableDiffusionXLImg2ImgPipeline: "sdxl",
  StableDiffusionXLInpaintPipeline: "sdxl",
  StableDiffusionXLPAGImg2ImgPipeline: "sdxl",
  StableDiffusionXLPAGInpaintPipeline: "sdxl",
  StableDiffusionXLPAGPipeline: "sdxl",
  StableDiffusionXLPipeline: "sdxl",
};

/** Classes that people take for these, and why their folders are refused. */
export const REFUSED_PIPELINES: Readonly<Record<string, string>> = {
  AltDiffusionPipeline: "whose text encoder is not CLIP's",
  FlaxStableDiffusionPipeline:
    "whose weights are Flax's; diffusers saves them for PyTorch with from_flax",
  FlaxStableDiffusionXLPipeline:
    "whose weights are Flax's; diffusers saves them for PyTorch with from_flax",
  OnnxStableDiffusionPipeline: "whose networks are exported already",
  ORTStableDiffusionPipeline: "whose networks are exported already",
  StableDiffusionDepth2ImgPipeline: "whose U-Net reads a depth map too",
  StableDiffusionInstructPix2PixPipeline: "whose U-Net reads an image too",
  StableDiffusionLatentUpscalePipeline: "whose U-Net enlarges latents",
  StableDiffusionUpscalePipeline: "whose U-Net reads a small image too",
  StableUnCLIPImg2ImgPipeline: "whose U-Net reads an image's embedding too",
  StableUnCLIPPipeline: "whose U-Net reads an image's embedding too",
};

/** A part's entry of model_index.json, [library, class]. */
const part = (library: string, ...classes: readonly string[]) =>
  z.tuple([only(library), only(...classes)], `${library}'s ${classes.join(" or ")}`);

const tokenizer = part("transformers", "CLIPTokenizer", "CLIPTokenizerFast");
const text = part("transformers", "CLIPTextModel", "CLIPTextModelWithProjection");
const SHARED = {
  // Nothing here is checked for safety or prompted by images, so these parts are not read.
  ...inert("feature_extractor", "image_encoder", "requires_safety_checker", "safety_checker"),
  scheduler: z.tuple([only("diffusers"), z.string()], "diffusers' scheduler"),
  text_encoder: text,
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
    requires_aesthetics_score: z.literal(
      false,
      "false: the refiner of XL, which goes on with another model's pictures, is not done here",
    ).default(false),
  }),
};

/** What `model_index.json` says of a pipeline. */
export interface PipelineIndex {
  readonly kind: Pipeline["kind"];
  readonly className: string;
  /** As "DDPMScheduler". */
  readonly scheduler: string;
  readonly forceZerosForEmptyPrompt: boolean;
}

/** Checks a `model_index.json`. Throws `ConfigError` naming `path`, field, what was found and what was expected. */
export function parseIndex(
  index: Readonly<Record<string, unknown>>,
  path: string,
): PipelineIndex {
  const name = index._class_name;
  const className = typeof name === "string" ? name : "";
  const kind = PIPELINE_CLASSES[className];
  if (kind === undefined) {
    const found = JSON.stringify(name) ?? "missing";
    const reason = REFUSED_PIPELINES[className];
    const expected = "StableDiffusionPipeline or StableDiffusionXLPipeline";
    throw new ConfigError(
      path,
      `"_class_name" is ${found}, ${reason === undefined ? "" : `${reason}: `}expected ${expected}`,
    );
  }
  // The refiner lacks parts; that it is the refiner says more.
  if (kind === "sdxl" && index.requires_aesthetics_score === true) {
    parseConfig(INDEX.sdxl.pick({ requires_aesthetics_score: true }), {
      requires_aesthetics_score: true,
    }, path);
  }
  const parts = parseConfig(INDEX[kind], index, path);
  return {
    kind,
    className,
    scheduler: parts.scheduler[1],
    forceZerosForEmptyPrompt: "force_zeros_for_empty_prompt" in parts &&
      parts.force_zeros_for_empty_prompt,
  };
}
