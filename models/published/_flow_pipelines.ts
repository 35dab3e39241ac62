import type { ModelFiles } from "./model_files.ts";

/** The decoder of 16 channels that SD 3, FLUX.1 and Z-Image have. */
const VAE_16 = {
  _class_name: "AutoencoderKL",
  act_fn: "silu",
  block_out_channels: [128, 256, 512, 512],
  down_block_types: Array.from({ length: 4 }, () => "DownEncoderBlock2D"),
  up_block_types: Array.from({ length: 4 }, () => "UpDecoderBlock2D"),
  in_channels: 3,
  out_channels: 3,
  latent_channels: 16,
  layers_per_block: 2,
  norm_num_groups: 32,
  sample_size: 1024,
  force_upcast: true,
  use_quant_conv: false,
  use_post_quant_conv: false,
};

const FLUX_VAE = { ...VAE_16, scaling_factor: 0.3611, shift_factor: 0.1159 };

const clip = (hidden: number, more: Readonly<Record<string, unknown>>) => ({
  model_type: "clip_text_model",
  hidden_act: "quick_gelu",
  hidden_size: hidden,
  intermediate_size: 4 * hidden,
  num_hidden_layers: 12,
  num_attention_heads: hidden / 64,
  projection_dim: hidden,
  max_position_embeddings: 77,
  vocab_size: 49408,
  layer_norm_eps: 1e-5,
  bos_token_id: 0,
  eos_token_id: 2,
  pad_token_id: 1,
  ...more,
});

const PROJECTED = { architectures: ["CLIPTextModelWithProjection"] };

/** T5 1.1 XXL's encoder. */
const T5_XXL = {
  architectures: ["T5EncoderModel"],
  model_type: "t5",
  d_model: 4096,
  d_kv: 64,
  d_ff: 10240,
  num_layers: 24,
  num_heads: 64,
  vocab_size: 32128,
  feed_forward_proj: "gated-gelu",
  relative_attention_num_buckets: 32,
  relative_attention_max_distance: 128,
  layer_norm_epsilon: 1e-6,
  is_encoder_decoder: true,
  tie_word_embeddings: false,
};

const QWEN3_4B = {
  architectures: ["Qwen3ForCausalLM"],
  model_type: "qwen3",
  vocab_size: 151936,
  hidden_size: 2560,
  intermediate_size: 9728,
  num_hidden_layers: 36,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  head_dim: 128,
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  max_position_embeddings: 40960,
  tie_word_embeddings: true,
  attention_bias: false,
};

const scheduler = ["diffusers", "FlowMatchEulerDiscreteScheduler"];
const EULER = {
  _class_name: "FlowMatchEulerDiscreteScheduler",
  num_train_timesteps: 1000,
  shift: 3.0,
};
const DYNAMIC = {
  ...EULER,
  use_dynamic_shifting: true,
  base_shift: 0.5,
  max_shift: 1.15,
  base_image_seq_len: 256,
  max_image_seq_len: 4096,
};

const FLUX_INDEX = {
  _class_name: "FluxPipeline",
  scheduler,
  text_encoder: ["transformers", "CLIPTextModel"],
  text_encoder_2: ["transformers", "T5EncoderModel"],
  tokenizer: ["transformers", "CLIPTokenizer"],
  tokenizer_2: ["transformers", "T5TokenizerFast"],
  transformer: ["diffusers", "FluxTransformer2DModel"],
  vae: ["diffusers", "AutoencoderKL"],
};
const FLUX_TRANSFORMER = {
  _class_name: "FluxTransformer2DModel",
  patch_size: 1,
  in_channels: 64,
  num_layers: 19,
  num_single_layers: 38,
  attention_head_dim: 128,
  num_attention_heads: 24,
  joint_attention_dim: 4096,
  pooled_projection_dim: 768,
  axes_dims_rope: [16, 56, 56],
};
const FLUX_PARTS = {
  "vae/config.json": FLUX_VAE,
  "text_encoder/config.json": clip(768, { architectures: ["CLIPTextModel"] }),
  "text_encoder_2/config.json": T5_XXL,
};

/** The published flow pipelines, as their folders describe them. */
export const FLOW_PIPELINES = {
  "sd35-medium": {
    "model_index.json": {
      _class_name: "StableDiffusion3Pipeline",
      scheduler,
      text_encoder: ["transformers", "CLIPTextModelWithProjection"],
      text_encoder_2: ["transformers", "CLIPTextModelWithProjection"],
      text_encoder_3: ["transformers", "T5EncoderModel"],
      tokenizer: ["transformers", "CLIPTokenizer"],
      tokenizer_2: ["transformers", "CLIPTokenizer"],
      tokenizer_3: ["transformers", "T5TokenizerFast"],
      transformer: ["diffusers", "SD3Transformer2DModel"],
      vae: ["diffusers", "AutoencoderKL"],
    },
    "transformer/config.json": {
      _class_name: "SD3Transformer2DModel",
      sample_size: 128,
      patch_size: 2,
      in_channels: 16,
      out_channels: 16,
      num_layers: 24,
      attention_head_dim: 64,
      num_attention_heads: 24,
      joint_attention_dim: 4096,
      caption_projection_dim: 1536,
      pooled_projection_dim: 2048,
      pos_embed_max_size: 384,
      dual_attention_layers: Array.from({ length: 13 }, (_, i) => i),
      qk_norm: "rms_norm",
    },
    "vae/config.json": { ...VAE_16, scaling_factor: 1.5305, shift_factor: 0.0609 },
    "text_encoder/config.json": clip(768, PROJECTED),
    "text_encoder_2/config.json": clip(1280, {
      ...PROJECTED,
      hidden_act: "gelu",
      num_hidden_layers: 32,
    }),
    "text_encoder_3/config.json": T5_XXL,
    "scheduler/scheduler_config.json": EULER,
  },
  "flux-schnell": {
    "model_index.json": FLUX_INDEX,
    "transformer/config.json": { ...FLUX_TRANSFORMER, guidance_embeds: false },
    ...FLUX_PARTS,
    "scheduler/scheduler_config.json": { ...EULER, shift: 1.0 },
  },
  "flux-dev": {
    "model_index.json": FLUX_INDEX,
    "transformer/config.json": { ...FLUX_TRANSFORMER, guidance_embeds: true },
    ...FLUX_PARTS,
    "scheduler/scheduler_config.json": DYNAMIC,
  },
  "klein-4b": {
    "model_index.json": {
      _class_name: "Flux2KleinPipeline",
      is_distilled: false,
      scheduler,
      text_encoder: ["transformers", "Qwen3ForCausalLM"],
      tokenizer: ["transformers", "Qwen2TokenizerFast"],
      transformer: ["diffusers", "Flux2Transformer2DModel"],
      vae: ["diffusers", "AutoencoderKLFlux2"],
    },
    "transformer/config.json": {
      _class_name: "Flux2Transformer2DModel",
      patch_size: 1,
      in_channels: 128,
      num_layers: 5,
      num_single_layers: 20,
      attention_head_dim: 128,
      num_attention_heads: 24,
      joint_attention_dim: 7680,
      timestep_guidance_channels: 256,
      mlp_ratio: 3.0,
      axes_dims_rope: [32, 32, 32, 32],
      rope_theta: 2000,
      eps: 1e-6,
      guidance_embeds: false,
    },
    "vae/config.json": {
      _class_name: "AutoencoderKLFlux2",
      act_fn: "silu",
      block_out_channels: [128, 256, 512, 512],
      down_block_types: Array.from({ length: 4 }, () => "DownEncoderBlock2D"),
      up_block_types: Array.from({ length: 4 }, () => "UpDecoderBlock2D"),
      in_channels: 3,
      out_channels: 3,
      latent_channels: 32,
      layers_per_block: 2,
      norm_num_groups: 32,
      batch_norm_eps: 1e-4,
      batch_norm_momentum: 0.1,
      patch_size: [2, 2],
    },
    "text_encoder/config.json": QWEN3_4B,
    "scheduler/scheduler_config.json": { ...DYNAMIC, time_shift_type: "exponential" },
  },
  "z-image": {
    "model_index.json": {
      _class_name: "ZImagePipeline",
      scheduler,
      text_encoder: ["transformers", "Qwen3ForCausalLM"],
      tokenizer: ["transformers", "Qwen2TokenizerFast"],
      transformer: ["diffusers", "ZImageTransformer2DModel"],
      vae: ["diffusers", "AutoencoderKL"],
    },
    "transformer/config.json": {
      _class_name: "ZImageTransformer2DModel",
      all_patch_size: [2],
      all_f_patch_size: [1],
      in_channels: 16,
      dim: 3840,
      n_layers: 30,
      n_refiner_layers: 2,
      n_heads: 30,
      n_kv_heads: 30,
      norm_eps: 1e-5,
      qk_norm: true,
      cap_feat_dim: 2560,
      rope_theta: 256.0,
      t_scale: 1000.0,
      axes_dims: [32, 48, 48],
      axes_lens: [1024, 512, 512],
    },
    "vae/config.json": FLUX_VAE,
    "text_encoder/config.json": QWEN3_4B,
    "scheduler/scheduler_config.json": EULER,
  },
} as const satisfies Record<string, ModelFiles>;
