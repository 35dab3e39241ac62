import type { ClipTextConfig } from "../clip/mod.ts";
import type { TokenizerPlace } from "../tokenizer/mod.ts";
import type { WeightSource } from "../weights/mod.ts";
import type { UNetConfig } from "./unet_config.ts";
import type { VaeConfig } from "./vae_config.ts";

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
  /** Absolute: its folder, or the file that holds all of it. */
  readonly folder: string;
  /** Stable Diffusion 1 or 2, or XL. */
  readonly kind: "sd" | "sdxl";
  readonly unet: Part<UNetConfig>;
  readonly vae: Part<VaeConfig>;
  /** One, or SDXL's two, the second with a projection. */
  readonly textEncoders: readonly Part<ClipTextConfig>[];
  /** The folder of each text encoder's tokenizer. */
  readonly tokenizers: readonly (string | TokenizerPlace)[];
  readonly scheduler: SchedulerFile;
  /** Whether the unconditional branch takes zeros for an empty prompt instead of its encoding. */
  readonly forceZerosForEmptyPrompt: boolean;
}
