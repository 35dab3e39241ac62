import { z } from "zod";
import { checkClass, count, only, parseConfig } from "../config.ts";
import { axes, sumOf } from "./_config.ts";

/** A `FluxTransformer2DModel`. */
export interface FluxConfig {
  /** Of the packed latents: four times those of the VAE. */
  readonly packedChannels: number;
  /** Blocks of two streams, and of one. */
  readonly layers: number;
  readonly singleLayers: number;
  readonly heads: number;
  readonly headWidth: number;
  readonly textWidth: number;
  readonly pooledWidth: number;
  readonly readsGuidance: boolean;
  /** Features of the axes of positions: none, row, column. */
  readonly axes: readonly number[];
}

/** All fields of diffusers' `FluxTransformer2DModel` with its defaults. */
const SCHEMA = z.strictObject({
  patch_size: only(1).default(1),
  in_channels: count().multipleOf(4, "a multiple of 4").default(64),
  out_channels: count().nullable().default(null),
  num_layers: count().default(19),
  num_single_layers: count().default(38),
  attention_head_dim: count().default(128),
  num_attention_heads: count().default(24),
  joint_attention_dim: count().default(4096),
  pooled_projection_dim: count().default(768),
  guidance_embeds: z.boolean("true or false").default(false),
  axes_dims_rope: axes().length(3, "three axes").default([16, 56, 56]),
}).refine((c) => (c.out_channels ?? c.in_channels) === c.in_channels, {
  path: ["out_channels"],
  error: "expected as many as in_channels",
}).refine((c) => sumOf(c.axes_dims_rope) === c.attention_head_dim, {
  path: ["axes_dims_rope"],
  error: "expected numbers that add up to attention_head_dim",
});

/** Checks a transformer's `config.json`; see `parseSD3Config`. */
export function parseFluxConfig(
  value: Readonly<Record<string, unknown>>,
  path: string,
): FluxConfig {
  checkClass(value, { path, className: "FluxTransformer2DModel" });
  const c = parseConfig(SCHEMA, value, path);
  return {
    packedChannels: c.in_channels,
    layers: c.num_layers,
    singleLayers: c.num_single_layers,
    heads: c.num_attention_heads,
    headWidth: c.attention_head_dim,
    textWidth: c.joint_attention_dim,
    pooledWidth: c.pooled_projection_dim,
    readsGuidance: c.guidance_embeds,
    axes: c.axes_dims_rope,
  };
}
