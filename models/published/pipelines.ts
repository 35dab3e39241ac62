import { FLOW_PIPELINES } from "./_flow_pipelines.ts";
import type { ModelFiles } from "./model_files.ts";

const VAE = {
  _class_name: "AutoencoderKL",
  act_fn: "silu",
  block_out_channels: [128, 256, 512, 512],
  down_block_types: Array.from({ length: 4 }, () => "DownEncoderBlock2D"),
  up_block_types: Array.from({ length: 4 }, () => "UpDecoderBlock2D"),
  in_channels: 3,
  out_channels: 3,
  latent_channels: 4,
  layers_per_block: 2,
  norm_num_groups: 32,
};

/** CLIP ViT-L/14's text tower. */
const CLIP_L = {
  architectures: ["CLIPTextModel"],
  model_type: "clip_text_model",
  hidden_act: "quick_gelu",
  hidden_size: 768,
  intermediate_size: 3072,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  projection_dim: 768,
  max_position_embeddings: 77,
  vocab_size: 49408,
  layer_norm_eps: 1e-5,
  bos_token_id: 0,
  eos_token_id: 2,
  pad_token_id: 1,
};

/** OpenCLIP ViT-H/14's, without its last layer, as Stable Diffusion 2 reads it. */
const CLIP_H = {
  ...CLIP_L,
  hidden_act: "gelu",
  hidden_size: 1024,
  intermediate_size: 4096,
  num_hidden_layers: 23,
  num_attention_heads: 16,
  projection_dim: 512,
};

/** OpenCLIP ViT-bigG/14's. */
const CLIP_G = {
  ...CLIP_L,
  architectures: ["CLIPTextModelWithProjection"],
  hidden_act: "gelu",
  hidden_size: 1280,
  intermediate_size: 5120,
  num_hidden_layers: 32,
  num_attention_heads: 20,
  projection_dim: 1280,
};

const SCHEDULE = {
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  num_train_timesteps: 1000,
  set_alpha_to_one: false,
  skip_prk_steps: true,
  steps_offset: 1,
  trained_betas: null,
  clip_sample: false,
};

const stableDiffusionIndex = (scheduler: string) => ({
  _class_name: "StableDiffusionPipeline",
  feature_extractor: [null, null],
  image_encoder: [null, null],
  requires_safety_checker: false,
  safety_checker: [null, null],
  scheduler: ["diffusers", scheduler],
  text_encoder: ["transformers", "CLIPTextModel"],
  tokenizer: ["transformers", "CLIPTokenizer"],
  unet: ["diffusers", "UNet2DConditionModel"],
  vae: ["diffusers", "AutoencoderKL"],
});

/** The published pipelines, as their folders describe them, by the names that `drtune fetch` has for them. */
export const PUBLISHED_PIPELINES = {
  sd15: {
    "model_index.json": stableDiffusionIndex("PNDMScheduler"),
    "unet/config.json": {
      _class_name: "UNet2DConditionModel",
      sample_size: 64,
      block_out_channels: [320, 640, 1280, 1280],
      cross_attention_dim: 768,
      attention_head_dim: 8,
    },
    "vae/config.json": { ...VAE, sample_size: 512, scaling_factor: 0.18215 },
    "text_encoder/config.json": CLIP_L,
    "scheduler/scheduler_config.json": { _class_name: "PNDMScheduler", ...SCHEDULE },
  },
  sd21: {
    "model_index.json": stableDiffusionIndex("DDIMScheduler"),
    "unet/config.json": {
      _class_name: "UNet2DConditionModel",
      sample_size: 96,
      block_out_channels: [320, 640, 1280, 1280],
      cross_attention_dim: 1024,
      attention_head_dim: [5, 10, 20, 20],
      use_linear_projection: true,
      upcast_attention: true,
    },
    "vae/config.json": { ...VAE, sample_size: 768, scaling_factor: 0.18215 },
    "text_encoder/config.json": CLIP_H,
    "scheduler/scheduler_config.json": {
      _class_name: "DDIMScheduler",
      ...SCHEDULE,
      prediction_type: "v_prediction",
    },
  },
  sdxl: {
    "model_index.json": {
      _class_name: "StableDiffusionXLPipeline",
      feature_extractor: [null, null],
      force_zeros_for_empty_prompt: true,
      image_encoder: [null, null],
      scheduler: ["diffusers", "EulerDiscreteScheduler"],
      text_encoder: ["transformers", "CLIPTextModel"],
      text_encoder_2: ["transformers", "CLIPTextModelWithProjection"],
      tokenizer: ["transformers", "CLIPTokenizer"],
      tokenizer_2: ["transformers", "CLIPTokenizer"],
      unet: ["diffusers", "UNet2DConditionModel"],
      vae: ["diffusers", "AutoencoderKL"],
    },
    "unet/config.json": {
      _class_name: "UNet2DConditionModel",
      sample_size: 128,
      block_out_channels: [320, 640, 1280],
      down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
      up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
      transformer_layers_per_block: [1, 2, 10],
      attention_head_dim: [5, 10, 20],
      cross_attention_dim: 2048,
      use_linear_projection: true,
      addition_embed_type: "text_time",
      addition_time_embed_dim: 256,
      projection_class_embeddings_input_dim: 2816,
    },
    "vae/config.json": { ...VAE, sample_size: 1024, scaling_factor: 0.13025, force_upcast: true },
    "text_encoder/config.json": CLIP_L,
    "text_encoder_2/config.json": CLIP_G,
    "scheduler/scheduler_config.json": {
      _class_name: "EulerDiscreteScheduler",
      ...SCHEDULE,
      interpolation_type: "linear",
      prediction_type: "epsilon",
      sample_max_value: 1.0,
      timestep_spacing: "leading",
      use_karras_sigmas: false,
    },
  },
  ...FLOW_PIPELINES,
} as const satisfies Record<string, ModelFiles>;

/** A name in `PUBLISHED_PIPELINES`. */
export type PublishedPipeline = keyof typeof PUBLISHED_PIPELINES;
