import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type AdaptableLayer, ATTENTION_TARGETS, type LoraPart } from "../../models/lora/mod.ts";
import { imageSize, loraParts, unetModules } from "../../models/diffusers/mod.ts";
import {
  type FlowPipeline,
  isFlow,
  readTextToImage,
  type TextToImage,
} from "../../models/flow/mod.ts";
import { type LatentSize, LCM_GUIDANCE } from "../model/mod.ts";
import {
  type FlowFamily,
  parseScheduler,
  type SamplerKind,
  type Scheduler,
  schedulerRemarks,
} from "../samplers/mod.ts";

/** What a run's configuration defaults to for a kind of model. */
export interface ModelDefaults {
  readonly isFlow: boolean;
  readonly samplerKind: SamplerKind;
  readonly guidanceScale: number;
  readonly targets: readonly string[];
}

/** A text-to-image pipeline on disk as runs see it, whatever predicts in it. */
export interface RunPipeline {
  readonly pipeline: TextToImage;
  /** Of what is trained. */
  readonly layers: readonly AdaptableLayer[];
  /** The networks that a LoRA's file may be about. */
  readonly parts: readonly LoraPart[];
  readonly defaults: ModelDefaults;
  /** Of the latents as they are sampled. */
  readonly channels: number;
  /** Size of the latents that it was trained on, where its files say. */
  readonly sampleSize?: LatentSize;
  /** Its noise schedule for latents of a size. Throws `FieldError`. */
  scheduler(size: LatentSize): Scheduler;
  /** What there is to say of its scheduler's file. */
  remarks(kind: SamplerKind): readonly string[];
  /** Of the images that latents decode to. */
  imageSize(size: LatentSize): { readonly height: number; readonly width: number };
}

/** U-Nets' defaults, which also hold before a model is known. */
export const UNET_DEFAULTS: ModelDefaults = {
  isFlow: false,
  samplerKind: "ddpm",
  guidanceScale: 7.5,
  targets: ATTENTION_TARGETS,
};

/** Latent consistency models'. */
const LCM_DEFAULTS: ModelDefaults = {
  ...UNET_DEFAULTS,
  samplerKind: "lcm",
  guidanceScale: LCM_GUIDANCE,
};

/** Scales of guidance that families' pipelines are published with. */
const GUIDANCE = { sd3: 4.5, flux: 3.5, flux2: 4, zimage: 4 } as const;

/** Reads a pipeline's folder but no weights. Throws the readers' errors, naming the file at fault. */
export async function readRunPipeline(folder: string): Promise<RunPipeline> {
  const pipeline = await readTextToImage(folder);
  return isFlow(pipeline) ? await flowPipeline(pipeline) : {
    pipeline,
    layers: unetModules(pipeline.unet),
    parts: loraParts(pipeline),
    defaults: pipeline.unet.config.guidanceWidth === undefined ? UNET_DEFAULTS : LCM_DEFAULTS,
    channels: pipeline.unet.config.inChannels,
    ...pipeline.unet.config.sampleSize &&
      { sampleSize: sizeOf(pipeline.unet.config.sampleSize) },
    scheduler: () => parseScheduler(pipeline.scheduler),
    remarks: (kind) => schedulerRemarks(pipeline.scheduler, kind),
    imageSize: (size) => imageSize(pipeline.vae.config, size),
  };
}

const sizeOf = ([height, width]: readonly [number, number]) => ({ height, width });

async function flowPipeline(pipeline: FlowPipeline): Promise<RunPipeline> {
  const { kind, transformer, folder, vae } = pipeline;
  // FLUX.2's latents are sampled packed: one position is a token, two by two of the VAE's.
  const packing = kind === "flux2" ? 2 : 1;
  const family: FlowFamily = kind;
  const tokens = ({ height, width }: LatentSize) =>
    packing === 2 ? height * width : Math.floor(height / 2) * Math.floor(width / 2);
  const config = z.looseObject({ sample_size: z.int().min(1).nullish() })
    .parse(JSON.parse(await readFile(join(folder, "transformer", "config.json"), "utf8")));
  // The others' files name none; they are trained at 1024 pixels.
  const side = (config.sample_size ?? 128) / packing;
  return {
    pipeline,
    layers: transformer.layers,
    parts: [{ name: "transformer", layers: transformer.layers }],
    defaults: {
      isFlow: true,
      samplerKind: "flow-euler",
      guidanceScale: GUIDANCE[kind],
      targets: transformer.targets,
    },
    channels: transformer.channels,
    sampleSize: { height: side, width: side },
    scheduler: (size) => parseScheduler(pipeline.scheduler, { family, tokens: tokens(size) }),
    remarks: () => [],
    imageSize: ({ height, width }) =>
      imageSize(vae.config, { height: packing * height, width: packing * width }),
  };
}
