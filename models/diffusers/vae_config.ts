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
  /**
   * Latents come in patches of so many rows and columns, channels first, normalized as `bn` says: FLUX.2's. Then the
   * latents' channels are so many times those of the decoder.
   */
  readonly patches?: { readonly size: number; readonly epsilon: number };
}

/** Pixels a latent stands for along each axis. */
export function vaeFactor({ channels, patches }: VaeConfig): number {
  return 2 ** (channels.length - 1) * (patches?.size ?? 1);
}

/** Channels of the latents a VAE is given: of patches, where it takes those. */
export function givenChannels({ latentChannels, patches }: VaeConfig): number {
  return latentChannels * (patches?.size ?? 1) ** 2;
}

/** Fields of diffusers' `AutoencoderKL` and `AutoencoderKLFlux2` with their defaults. Those of the encoder alone change nothing here. */
const SHARED = {
  // force_upcast asks for float32, in which everything here is computed: SDXL's first VAE overflows in float16.
  ...inert("down_block_types", "force_upcast", "in_channels", "sample_size", "use_quant_conv"),
  out_channels: only(3).default(3),
  up_block_types: z.array(only("UpDecoderBlock2D"), "a list").default(["UpDecoderBlock2D"]),
  block_out_channels: z.array(count(), "a list").min(1, "at least one level").default([64]),
  act_fn: only("silu", "swish").default("silu"),
  norm_num_groups: count().default(32),
  use_post_quant_conv: z.boolean("true or false").default(true),
  mid_block_add_attention: z.boolean("true or false").default(true),
};

const SCHEMA = z.strictObject({
  ...SHARED,
  layers_per_block: count().default(1),
  latent_channels: count().default(4),
  scaling_factor: positive().default(0.18215),
  shift_factor: z.number("a number or null").nullable().default(null),
  latents_mean: only(null).default(null),
  latents_std: only(null).default(null),
});

const FLUX2_SCHEMA = z.strictObject({
  ...SHARED,
  ...inert("batch_norm_momentum"),
  up_block_types: z.array(only("UpDecoderBlock2D"), "a list").default([
    "UpDecoderBlock2D",
    "UpDecoderBlock2D",
    "UpDecoderBlock2D",
    "UpDecoderBlock2D",
  ]),
  block_out_channels: z.array(count(), "a list").min(1, "at least one level")
    .default([128, 256, 512, 512]),
  decoder_block_out_channels: z.array(count(), "a list").nullable().default(null),
  layers_per_block: count().default(2),
  latent_channels: count().default(32),
  batch_norm_eps: positive().default(1e-4),
  patch_size: z.tuple([only(2), only(2)], "[2,2]").default([2, 2]),
});

/**
 * Checks a VAE's `config.json`. Fields left out have diffusers' defaults. Throws `ConfigError` naming `path`, the
 * field, what was found and what was expected, for whatever the decoder here does not do.
 */
export function parseVaeConfig(value: Readonly<Record<string, unknown>>, path: string): VaeConfig {
  checkClass(value, { path, className: "AutoencoderKL" });
  const c = parseConfig(SCHEMA, value, path);
  return {
    ...decoderOf({ ...c, channels: c.block_out_channels }, path),
    scalingFactor: c.scaling_factor,
    shiftFactor: c.shift_factor ?? 0,
  };
}

/** Checks the `config.json` of FLUX.2's VAE, an `AutoencoderKLFlux2`; see `parseVaeConfig`. */
export function parseFlux2VaeConfig(
  value: Readonly<Record<string, unknown>>,
  path: string,
): VaeConfig {
  checkClass(value, { path, className: "AutoencoderKLFlux2" });
  const c = parseConfig(FLUX2_SCHEMA, value, path);
  const channels = c.decoder_block_out_channels ?? c.block_out_channels;
  return {
    ...decoderOf({ ...c, channels }, path),
    scalingFactor: 1,
    shiftFactor: 0,
    patches: { size: c.patch_size[0], epsilon: c.batch_norm_eps },
  };
}

/** What decoders of both have in common. */
function decoderOf(
  c: {
    readonly channels: readonly number[];
    readonly up_block_types: readonly string[];
    readonly norm_num_groups: number;
    readonly latent_channels: number;
    readonly layers_per_block: number;
    readonly mid_block_add_attention: boolean;
    readonly use_post_quant_conv: boolean;
  },
  path: string,
): Omit<VaeConfig, "scalingFactor" | "shiftFactor"> {
  const n = c.channels.length;
  const wrong = c.channels.find((channels) => channels % c.norm_num_groups !== 0);
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
    channels: c.channels,
    layers: c.layers_per_block + 1,
    normGroups: c.norm_num_groups,
    middleAttention: c.mid_block_add_attention,
    postQuantConv: c.use_post_quant_conv,
  };
}
