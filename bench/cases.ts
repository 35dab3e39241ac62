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

/** One DRTune iteration of the embedded pipeline up to the LoRA gradients; the image's gradient is given. */
export interface IterationCase {
  readonly kind: "iteration";
  readonly batch: number;
  readonly rank: number;
  readonly steps: number;
  readonly trainSteps: readonly number[];
  readonly tMin: number;
  readonly guidance: number;
}

/** Score and d score / d image of one 512x512 image by a reward, from its files of random weights to the answer. */
export interface RewardCase {
  readonly kind: "reward";
  /** Of `deno task random-model`. */
  readonly reward: "hpsv2" | "pickscore" | "aesthetic" | "owlvit";
}

/** What is measured, as both sides read it. */
export type BenchCase = (ClipCase | UNetCase | VaeCase | IterationCase | RewardCase) & {
  readonly title: string;
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
  },
  "pickscore": {
    title: "PickScore: CLIP ViT-H/14 in transformers' format, fp32",
    kind: "reward",
    reward: "pickscore",
  },
  "hpsv2": {
    title: "HPS v2.1: CLIP ViT-H/14 in open_clip's format, fp16",
    kind: "reward",
    reward: "hpsv2",
  },
  "owlvit": {
    title: "Objectness: OWL-ViT B/32 at 768x768",
    kind: "reward",
    reward: "owlvit",
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
  "vae": {
    title: "SD's VAE decoder, 64x64 latents to 512x512 pixels",
    kind: "vae",
    batch: 1,
    size: 64,
    checkpointing: true,
    memory: 3.5 * 2 ** 30,
  },
};

/** The cases run when none is named. */
export const DEFAULT_CASES: readonly string[] = ["clip", "unet", "iteration"];

/** Whether only the value is computed, or the gradient too. */
export const MODES = ["forward", "gradient"] as const;
export type Mode = (typeof MODES)[number];
