import assert from "node:assert/strict";
import { ConfigError } from "../config.ts";
import { parseUNetConfig } from "./unet_config.ts";
import { parseVaeConfig } from "./vae_config.ts";

const parse = (value: Record<string, unknown>) => parseUNetConfig(value, "unet/config.json");

function refused(value: Record<string, unknown>, message: RegExp): void {
  assert.throws(() => parse(value), (error) => {
    assert.ok(error instanceof ConfigError);
    assert.match(error.message, /^Config unet\/config.json: /);
    assert.match(error.message, message);
    return true;
  });
}

// The fields of Stable Diffusion 1.5's file.
const SD15 = {
  _class_name: "UNet2DConditionModel",
  _diffusers_version: "0.6.0",
  act_fn: "silu",
  attention_head_dim: 8,
  block_out_channels: [320, 640, 1280, 1280],
  center_input_sample: false,
  cross_attention_dim: 768,
  down_block_types: [
    "CrossAttnDownBlock2D",
    "CrossAttnDownBlock2D",
    "CrossAttnDownBlock2D",
    "DownBlock2D",
  ],
  downsample_padding: 1,
  flip_sin_to_cos: true,
  freq_shift: 0,
  in_channels: 4,
  layers_per_block: 2,
  mid_block_scale_factor: 1,
  norm_eps: 1e-5,
  norm_num_groups: 32,
  out_channels: 4,
  sample_size: 64,
  up_block_types: ["UpBlock2D", ...Array.from({ length: 3 }, () => "CrossAttnUpBlock2D")],
};

Deno.test("Stable Diffusion 1.5: heads at each level, and 128 adapted projections", () => {
  const config = parse(SD15);
  assert.deepEqual(
    config.levels.map((l) => [l.channels, l.heads, l.downAttention, l.upAttention]),
    [
      [320, 8, true, true],
      [640, 8, true, true],
      [1280, 8, true, true],
      [1280, 8, false, false],
    ],
  );
  assert.equal(config.timeWidth, 1280);
  assert.equal(config.upcastAttention, false);
  assert.equal(parse({ ...SD15, upcast_attention: null }).upcastAttention, false);
  assert.equal(parse({ ...SD15, upcast_attention: true }).upcastAttention, true);
  assert.deepEqual(config.sampleSize, [64, 64]);
});

Deno.test("SDXL: transformer layers at each level, and what the sizes leave for the pooled text", () => {
  const config = parse({
    addition_embed_type: "text_time",
    addition_embed_type_num_heads: 64,
    addition_time_embed_dim: 256,
    attention_head_dim: [5, 10, 20],
    block_out_channels: [320, 640, 1280],
    cross_attention_dim: 2048,
    down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    projection_class_embeddings_input_dim: 2816,
    transformer_layers_per_block: [1, 2, 10],
    up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    use_linear_projection: true,
  });
  assert.deepEqual(config.textTime, { textWidth: 1280, sizeWidth: 256 });
});

Deno.test("a file without fields has diffusers' defaults", () => {
  const config = parse({});
  assert.equal(config.contextWidth, 1280);
  assert.equal(config.levels.length, 4);
  assert.equal(config.middle, "attention");
});

Deno.test("what the U-Net here does not do is refused by name", () => {
  refused(
    { ...SD15, time_cond_proj_dim: 1 },
    /"time_cond_proj_dim" is 1, expected a width of 4 to/,
  );
  refused(
    { ...SD15, _class_name: "UNet3DConditionModel" },
    /"_class_name" is "UNet3DConditionModel", expected "UNet2DConditionModel"/,
  );
  refused({ ...SD15, class_embed_type: "timestep" }, /"class_embed_type" is "timestep", expected/);
  refused({ ...SD15, num_class_embeds: 1000 }, /"num_class_embeds" is 1000, expected null/);
  refused({ ...SD15, act_fn: "gelu" }, /"act_fn" is "gelu", expected "silu" or "swish"/);
  refused({ ...SD15, only_cross_attention: [true, false] }, /"only_cross_attention"/);
  refused({ ...SD15, mid_block_type: "UNetMidBlock2DSimpleCrossAttn" }, /"mid_block_type" is "UN/);
  refused({ ...SD15, num_attention_heads: 8 }, /"num_attention_heads" is 8, expected null/);
  refused(
    { ...SD15, down_block_types: ["KDownBlock2D"] },
    /"down_block_types.0" is "KDownBlock2D", expected "CrossAttnDownBlock2D" or "DownBlock2D"/,
  );
  refused({ ...SD15, new_trick: true }, /"new_trick" is not known here/);
  refused({ ...SD15, norm_num_groups: null }, /"norm_num_groups" is null, expected a whole/);
});

Deno.test("fields that do not fit one another are refused", () => {
  refused({ ...SD15, block_out_channels: [320, 640] }, /"down_block_types" is .*, expected 2 blo/);
  refused({ ...SD15, layers_per_block: [1, 2] }, /"layers_per_block" is \[1,2\], expected 4 num/);
  // Where diffusers once took the first of them going down, and the last going up.
  refused(
    { ...SD15, attention_head_dim: [5, 10] },
    /"attention_head_dim" is \[5,10\], expected 4 numbers, one for each level/,
  );
  refused({ ...SD15, attention_head_dim: 7 }, /"attention_head_dim" is 7, .* divides 320/);
  refused({ ...SD15, norm_num_groups: 48 }, /"block_out_channels" is 320, expected multiples of/);
  refused(
    { ...SD15, cross_attention_dim: [768, 768, 512, 768] },
    /"cross_attention_dim" is .*, expected one width wherever there is attention/,
  );
  refused(
    { ...SD15, addition_embed_type: "text_time" },
    /"addition_time_embed_dim" is null, expected a width/,
  );
  refused(
    { ...SD15, addition_embed_type: "text_time", addition_time_embed_dim: 256 },
    /"projection_class_embeddings_input_dim" is null, expected more than 1536/,
  );
  refused(
    {
      block_out_channels: [32],
      down_block_types: ["DownBlock2D"],
      up_block_types: ["UpBlock2D"],
      mid_block_type: null,
    },
    /nothing reads the text/,
  );
});

Deno.test("a VAE's config is checked field by field", () => {
  const refusedVae = (value: Record<string, unknown>, message: RegExp) =>
    assert.throws(() => parseVaeConfig(value, "vae/config.json"), message);
  refusedVae({ shift_factor: "0.1" }, /"shift_factor" is "0.1", expected a number or null/);
  refusedVae({ latents_mean: [0, 0] }, /"latents_mean" is \[0,0\], expected null/);
  refusedVae({ up_block_types: ["AttnUpDecoderBlock2D"] }, /"up_block_types.0" is "AttnUp/);
  refusedVae({ block_out_channels: [32, 64] }, /"up_block_types" is .*, expected 2, one for each/);
  refusedVae({ block_out_channels: [40] }, /"block_out_channels" is 40, expected multiples of/);
  refusedVae({ scaling_factor: 0 }, /"scaling_factor" is 0, expected a number above 0/);
  refusedVae({ out_channels: 4 }, /"out_channels" is 4, expected 3/);
  assert.equal(parseVaeConfig({ force_upcast: true }, "vae/config.json").scalingFactor, 0.18215);
  assert.equal(parseVaeConfig({}, "vae/config.json").shiftFactor, 0);
  assert.equal(parseVaeConfig({ shift_factor: 0.1 }, "vae/config.json").shiftFactor, 0.1);
});
