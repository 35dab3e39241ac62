import { z } from "zod";
import { checkClass, ConfigError, count, inert, only, parseConfig, positive } from "../config.ts";

/** The decoder of an `AutoencoderKL`. */
export interface VaeConfig {
  readonly latentChannels: number;
  /** Channels of each resolution, finest first; each but the first doubles the size. */
  readonly channels: readonly number[];
  /** Residual blocks at each resolution. */
  readonly layers: number;
  readonly normGroups: number;
  readonly middleAttention: boolean;
  readonly postQuantConv: boolean;
  /** Latents are divided by this before they are decoded. */
  readonly scalingFactor: number;
  /** Added to latents after that. */
  readonly shiftFactor: number;
}

/** Pixels a latent stands for along each axis. */
export function vaeFactor({ channels }: VaeConfig): number {
  return 2 ** (channels.length - 1);
}

/** All fields of diffusers' `AutoencoderKL` with its defaults. Those of the encoder alone change nothing here. */
const SCHEMA = z.strictObject({
  // force_upcast asks for float32, in which everything here is computed: SDXL's first VAE overflows in float16.
  ...inert("down_block_types", "force_upcast", "in_channels", "sample_size", "use_quant_conv"),
  out_channels: only(3).default(3),
  up_block_types: z.array(only("UpDecoderBlock2D"), "a list").default(["UpDecoderBlock2D"]),
  block_out_channels: z.array(count(), "a list").min(1, "at least one level").default([64]),
  layers_per_block: count().default(1),
  act_fn: only("silu", "swish").default("silu"),
  latent_channels: count().default(4),
  norm_num_groups: count().default(32),
  scaling_factor: positive().default(0.18215),
  shift_factor: z.number("a number or null").nullable().default(null),
  latents_mean: only(null).default(null),
  latents_std: only(null).default(null),
  use_post_quant_conv: z.boolean("true or false").default(true),
  mid_block_add_attention: z.boolean("true or false").default(true),
});

/**
 * Checks a VAE's `config.json`. Fields left out have diffusers' defaults. Throws `ConfigError` naming `path`, the
 * field, what was found and what was expected, for whatever the decoder here does not do.
 */
export function parseVaeConfig(value: Readonly<Record<string, unknown>>, path: string): VaeConfig {
  checkClass(value, { path, className: "AutoencoderKL" });
  const c = parseConfig(SCHEMA, value, path);
  const n = c.block_out_channels.length;
  const wrong = c.block_out_channels.find((channels) => channels % c.norm_num_groups !== 0);
  if (wrong !== undefined) {
    throw new ConfigError(
      path,
      `"block_out_channels" is ${wrong}, expected multiples of norm_num_groups, ${c.norm_num_groups}`,
    );
  }
  if (c.up_block_types.length !== n) {
    throw new ConfigError(
      path,
      `"up_block_types" is ${JSON.stringify(c.up_block_types)}, expected ${n}, one for each level`,
    );
  }
  return {
    latentChannels: c.latent_channels,
    channels: c.block_out_channels,
    layers: c.layers_per_block + 1,
    normGroups: c.norm_num_groups,
    middleAttention: c.mid_block_add_attention,
    postQuantConv: c.use_post_quant_conv,
    scalingFactor: c.scaling_factor,
    shiftFactor: c.shift_factor ?? 0,
  };
}
