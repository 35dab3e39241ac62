import { z } from "zod";
import { checkClass, count, inert, only, parseConfig } from "../config.ts";

/** A `SD3Transformer2DModel`. */
export interface SD3Config {
  readonly patch: number;
  /** Of the latents, in and out. */
  readonly channels: number;
  readonly layers: number;
  readonly heads: number;
  readonly headWidth: number;
  /** Width of the text states. */
  readonly textWidth: number;
  /** Width of the pooled text embeddings. */
  readonly pooledWidth: number;
  /** Rows and columns of the table of positions, in patches. */
  readonly positions: number;
  /** Blocks in which the image attends to itself a second time. */
  readonly dualLayers: ReadonlySet<number>;
}

/** All fields of diffusers' `SD3Transformer2DModel` with its defaults. */
const SCHEMA = z.strictObject({
  // The size positions were trained at is worked into their table already.
  ...inert("sample_size"),
  patch_size: count().default(2),
  in_channels: count().default(16),
  out_channels: count().nullable().default(16),
  num_layers: count().default(18),
  attention_head_dim: count().default(64),
  num_attention_heads: count().default(18),
  joint_attention_dim: count().default(4096),
  caption_projection_dim: count().default(1152),
  pooled_projection_dim: count().default(2048),
  pos_embed_max_size: count().default(96),
  dual_attention_layers: z.array(z.int("a block's number"), "a list of blocks").default([]),
  qk_norm: only(null, "rms_norm").default(null),
}).refine((c) => c.caption_projection_dim === c.attention_head_dim * c.num_attention_heads, {
  path: ["caption_projection_dim"],
  error: "expected attention_head_dim times num_attention_heads",
}).refine((c) => (c.out_channels ?? c.in_channels) === c.in_channels, {
  path: ["out_channels"],
  error: "expected as many as in_channels",
}).refine((c) => c.dual_attention_layers.every((i) => i >= 0 && i < c.num_layers), {
  path: ["dual_attention_layers"],
  error: "expected numbers of blocks below num_layers",
});

/**
 * Checks a transformer's `config.json`. Fields left out have diffusers' defaults. Throws `ConfigError` naming `path`,
 * the field, what was found and what was expected, for whatever is not built here.
 */
export function parseSD3Config(value: Readonly<Record<string, unknown>>, path: string): SD3Config {
  checkClass(value, { path, className: "SD3Transformer2DModel" });
  const c = parseConfig(SCHEMA, value, path);
  return {
    patch: c.patch_size,
    channels: c.in_channels,
    layers: c.num_layers,
    heads: c.num_attention_heads,
    headWidth: c.attention_head_dim,
    textWidth: c.joint_attention_dim,
    pooledWidth: c.pooled_projection_dim,
    positions: c.pos_embed_max_size,
    dualLayers: new Set(c.dual_attention_layers),
  };
}
