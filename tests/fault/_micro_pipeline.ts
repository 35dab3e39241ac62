import { fileURLToPath } from "node:url";
import { writeRandomModel } from "../../tools/random_model/mod.ts";

/** Channels of every network. */
const WIDTH = 8;

/** A text-to-image pipeline with one block of each kind: what starts it is Deno, not its size. */
const FILES = {
  "model_index.json": {
    _class_name: "StableDiffusionPipeline",
    feature_extractor: [null, null],
    image_encoder: [null, null],
    requires_safety_checker: false,
    safety_checker: [null, null],
    scheduler: ["diffusers", "DDPMScheduler"],
    text_encoder: ["transformers", "CLIPTextModel"],
    tokenizer: ["transformers", "CLIPTokenizer"],
    unet: ["diffusers", "UNet2DConditionModel"],
    vae: ["diffusers", "AutoencoderKL"],
  },
  "unet/config.json": {
    _class_name: "UNet2DConditionModel",
    sample_size: 4,
    block_out_channels: [WIDTH],
    down_block_types: ["CrossAttnDownBlock2D"],
    up_block_types: ["CrossAttnUpBlock2D"],
    layers_per_block: 1,
    norm_num_groups: 4,
    cross_attention_dim: WIDTH,
    attention_head_dim: 2,
  },
  "vae/config.json": {
    _class_name: "AutoencoderKL",
    act_fn: "silu",
    block_out_channels: [WIDTH],
    down_block_types: ["DownEncoderBlock2D"],
    up_block_types: ["UpDecoderBlock2D"],
    in_channels: 3,
    out_channels: 3,
    latent_channels: 4,
    layers_per_block: 1,
    norm_num_groups: 4,
    sample_size: 4,
    scaling_factor: 0.18215,
  },
  "text_encoder/config.json": {
    architectures: ["CLIPTextModel"],
    model_type: "clip_text_model",
    hidden_act: "quick_gelu",
    hidden_size: WIDTH,
    intermediate_size: WIDTH,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    projection_dim: WIDTH,
    max_position_embeddings: 77,
    vocab_size: 545,
    layer_norm_eps: 1e-5,
    bos_token_id: 543,
    eos_token_id: 544,
    pad_token_id: 544,
  },
  "scheduler/scheduler_config.json": {
    _class_name: "DDPMScheduler",
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
    num_train_timesteps: 1000,
    clip_sample: false,
  },
};

/** Writes the pipeline with random weights of a fixed seed. */
export async function writeMicroPipeline(folder: string): Promise<void> {
  const tokenizer = fileURLToPath(new URL("../golden/tiny-sd/tokenizer", import.meta.url));
  await writeRandomModel(folder, { files: FILES, dtype: "fp32", tokenizer });
}
