import { PUBLISHED_PIPELINES } from "../models/published/mod.ts";

/** A vision tower of CLIP: d ⟨direction, embedding⟩ / d pixels. Weights are random, in transformers' format. */
export interface ClipCase {
  readonly kind: "clip";
  readonly batch: number;
  readonly projection: number;
  /** Fields of transformers' `CLIPVisionConfig`. */
  readonly vision: Readonly<Record<string, number | string>>;
}

/** A denoiser with LoRA on its attention projections: the gradients of all LoRA tensors, and of nothing else. */
export interface UNetCase {
  readonly kind: "unet";
  readonly batch: number;
  /** Side of the latents. */
  readonly size: number;
  readonly rank: number;
  /** Fields of diffusers' `UNet2DConditionModel`. */
  readonly config: Readonly<Record<string, number | readonly number[]>>;
  /** PyTorch recomputes blocks in its backward pass: where it would not fit the machine otherwise. */
  readonly checkpointing?: boolean;
  /** Bytes our side may take in each mode, as the trainer's `memoryLimit`; it runs in pieces where it needs to. */
  readonly memory?: Readonly<Record<Mode, number>>;
}

/** A VAE decoder: d ⟨direction, image⟩ / d latents. */
export interface VaeCase {
  readonly kind: "vae";
  readonly batch: number;
  readonly size: number;
  readonly checkpointing?: boolean;
  readonly memory?: number;
}

/** A flow's transformer with LoRA on its attention projections: the gradients of all LoRA tensors, and of nothing else. */
export interface TransformerCase {
  readonly kind: "transformer";
  readonly batch: number;
  /** Side of the latents. */
  readonly size: number;
  readonly tokens: number;
  readonly rank: number;
  /**
   * Of diffusers' `SD3Transformer2DModel`, `Flux2Transformer2DModel` or `ZImageTransformer2DModel`. Weights are random, in
   * bfloat16.
   */
  readonly config: Readonly<Record<string, unknown>>;
  readonly checkpointing?: boolean;
  readonly memory?: Readonly<Record<Mode, number>>;
}

/** One DRTune iteration of a pipeline up to the LoRA gradients; the image's gradient is given. */
export interface IterationCase {
  readonly kind: "iteration";
  /** A published pipeline of random weights. Default: the embedded one. */
  readonly model?: "sd15" | "sdxl";
  /** Side of the latents. */
  readonly size: number;
  readonly batch: number;
  readonly rank: number;
  readonly steps: number;
  readonly trainSteps: readonly number[];
  readonly tMin: number;
  readonly guidance: number;
}

/** Scores and d score / d image of 512x512 images by a reward, from its files of random weights to the answer. */
export interface RewardCase {
  readonly kind: "reward";
  /** Images. */
  readonly batch: number;
  /** Of `deno task random-model`. */
  readonly reward: "hpsv2" | "pickscore" | "aesthetic" | "owlvit";
}

/** Where and in what both sides compute. */
export interface BenchPlace {
  readonly provider: "cpu" | "cuda";
  /** What our networks, but for the VAE's decoder, and all of PyTorch's compute in. */
  readonly ours: "float32" | "float16";
  readonly torch: "float32" | "float16" | "bfloat16";
  /** PyTorch's networks go through `torch.compile`. */
  readonly compile: boolean;
  readonly threads: number;
  /** Bytes of the GPU that one side may take. */
  readonly memory?: number;
}

/** What is measured, as both sides read it. */
export type BenchCase =
  & (ClipCase | UNetCase | TransformerCase | VaeCase | IterationCase | RewardCase)
  & {
    readonly title: string;
    /** The second side starts when the first has ended: the machine would not hold both. */
    readonly apart?: boolean;
  };

const vision = (width: number, layers: number, heads: number, patch: number, act: string) => ({
  hidden_size: width,
  intermediate_size: 4 * width,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  image_size: 224,
  patch_size: patch,
  hidden_act: act,
});

const GIB = 2 ** 30;

/** The shape of Stable Diffusion's U-Net at half its width, 223 M parameters. */
const HALF_SD = {
  block_out_channels: [160, 320, 640, 640],
  cross_attention_dim: 1024,
  attention_head_dim: 8,
} as const;

const SD_15 = {
  block_out_channels: [320, 640, 1280, 1280],
  cross_attention_dim: 768,
  attention_head_dim: 8,
} as const;

/** One block of each kind of FLUX.2 Klein or Z-Image, in their own sizes, with what stands before and after the blocks. */
const BLOCKS = {
  klein: {
    title: "a double and a single block of FLUX.2 Klein 4B, 512 tokens of text",
    tokens: 512,
    config: {
      ...PUBLISHED_PIPELINES["klein-4b"]["transformer/config.json"],
      num_layers: 1,
      num_single_layers: 1,
    },
    // Its latents lie in patches.
    pixels: 16,
  },
  zImage: {
    title: "a block and both kinds of refiner of Z-Image, 32 tokens of text",
    tokens: 32,
    config: {
      ...PUBLISHED_PIPELINES["z-image"]["transformer/config.json"],
      n_layers: 1,
      n_refiner_layers: 1,
    },
    pixels: 8,
  },
} as const;

const blockCase = (of: keyof typeof BLOCKS, side: number) => {
  const { title, pixels, ...rest } = BLOCKS[of];
  return {
    title: `${side}x${side} pixels, ${title}, LoRA rank 32`,
    kind: "transformer",
    batch: 1,
    size: side / pixels,
    rank: 32,
    ...rest,
    apart: true,
  } as const;
};

/** By the name to give `--case`. */
export const CASES: Readonly<Record<string, BenchCase>> = {
  "clip": {
    title: "CLIP ViT-B/32, batch 4",
    kind: "clip",
    batch: 4,
    projection: 512,
    vision: vision(768, 12, 12, 32, "quick_gelu"),
  },
  "unet": {
    title: "U-Net of SD's shape, 223 M parameters, batch 2, 32x32 latents, LoRA rank 32",
    kind: "unet",
    batch: 2,
    size: 32,
    rank: 32,
    config: HALF_SD,
  },
  "iteration": {
    title: "One DRTune iteration of the embedded pipeline, batch 8, T 10, K 2",
    kind: "iteration",
    batch: 8,
    size: 16,
    rank: 16,
    steps: 10,
    trainSteps: [3, 8],
    tMin: 2,
    guidance: 5,
  },
  "clip-l14": {
    title: "CLIP ViT-L/14, batch 1",
    kind: "clip",
    batch: 1,
    projection: 768,
    vision: vision(1024, 24, 16, 14, "quick_gelu"),
  },
  "clip-h14": {
    title: "CLIP ViT-H/14, batch 1",
    kind: "clip",
    batch: 1,
    projection: 1024,
    vision: vision(1280, 32, 16, 14, "gelu"),
  },
  "aesthetic": {
    title: "Aesthetic reward: CLIP ViT-L/14 in transformers' format, fp32",
    kind: "reward",
    reward: "aesthetic",
    batch: 1,
  },
  "pickscore": {
    title: "PickScore: CLIP ViT-H/14 in transformers' format, fp32",
    kind: "reward",
    reward: "pickscore",
    batch: 1,
  },
  "hpsv2": {
    title: "HPS v2.1: CLIP ViT-H/14 in open_clip's format, fp16",
    kind: "reward",
    reward: "hpsv2",
    batch: 1,
  },
  "owlvit": {
    title: "Objectness: OWL-ViT B/32 at 768x768",
    kind: "reward",
    reward: "owlvit",
    batch: 1,
  },
  "unet-64": {
    title: "U-Net of SD's shape, 223 M parameters, batch 2, 64x64 latents, LoRA rank 32",
    kind: "unet",
    batch: 2,
    size: 64,
    rank: 32,
    config: HALF_SD,
  },
  "sd15": {
    title: "SD 1.5's U-Net, 860 M parameters, batch 2, 64x64 latents, LoRA rank 32",
    kind: "unet",
    batch: 2,
    size: 64,
    rank: 32,
    config: SD_15,
    checkpointing: true,
    memory: { forward: 2.75 * 2 ** 30, gradient: 5.5 * 2 ** 30 },
  },
  "sd35": {
    title: "SD 3.5 medium's transformer, 2.2 G parameters, 64x64 latents, 333 tokens, LoRA rank 32",
    kind: "transformer",
    batch: 1,
    size: 64,
    tokens: 333,
    rank: 32,
    config: PUBLISHED_PIPELINES["sd35-medium"]["transformer/config.json"],
    checkpointing: true,
    memory: { forward: 7 * GIB, gradient: 9 * GIB },
    apart: true,
  },
  "klein-block": blockCase("klein", 512),
  "klein-block-1024": blockCase("klein", 1024),
  "z-image-block": blockCase("zImage", 512),
  "z-image-block-1024": blockCase("zImage", 1024),
  "vae": {
    title: "SD's VAE decoder, 64x64 latents to 512x512 pixels",
    kind: "vae",
    batch: 1,
    size: 64,
    checkpointing: true,
    memory: 3.5 * 2 ** 30,
  },
};

/** Cases that are for a GPU: a processor takes hours for each. */
export const GPU_CASES: Readonly<Record<string, BenchCase>> = {
  "sd15-iteration": {
    title: "One DRTune iteration of SD 1.5, 512x512, batch 8, T 50, K 5",
    kind: "iteration",
    model: "sd15",
    batch: 8,
    size: 64,
    rank: 32,
    steps: 50,
    trainSteps: [7, 17, 27, 37, 47],
    tMin: 4,
    guidance: 7.5,
  },
  "sdxl-iteration": {
    title: "One DRTune iteration of SDXL, 1024x1024, batch 2, T 25, K 3",
    kind: "iteration",
    model: "sdxl",
    batch: 2,
    size: 128,
    rank: 32,
    steps: 25,
    trainSteps: [5, 13, 21],
    tMin: 3,
    guidance: 7.5,
  },
  "hpsv2-32": {
    title: "HPS v2.1: CLIP ViT-H/14 in open_clip's format, fp16, 32 images",
    kind: "reward",
    reward: "hpsv2",
    batch: 32,
  },
};

/** The cases run when none is named. */
export const DEFAULT_CASES: readonly string[] = ["clip", "unet", "iteration"];

/** Whether only the value is computed, or the gradient too. */
export const MODES = ["forward", "gradient"] as const;
export type Mode = (typeof MODES)[number];
