import { z } from "zod";
import { checkClass, count, only, parseConfig, positive } from "../config.ts";
import { axes, sumOf } from "./_config.ts";

/** A `Flux2Transformer2DModel`. */
export interface Flux2Config {
  /** Of the latents as they are sampled: four times those of the VAE. */
  readonly channels: number;
  /** Blocks of two streams, and of one. */
  readonly layers: number;
  readonly singleLayers: number;
  readonly heads: number;
  readonly headWidth: number;
  readonly textWidth: number;
  /** Width of an MLP's hidden layer. */
  readonly mlpWidth: number;
  readonly readsGuidance: boolean;
  /** Features of the axes of positions: none, row, column, word. */
  readonly axes: readonly number[];
  readonly theta: number;
  readonly epsilon: number;
}

/** All fields of diffusers' `Flux2Transformer2DModel` with its defaults. */
const SCHEMA = z.strictObject({
  patch_size: only(1).default(1),
  in_channels: count().default(128),
  out_channels: count().nullable().default(null),
  num_layers: count().default(8),
  num_single_layers: count().default(48),
  attention_head_dim: count().default(128),
  num_attention_heads: count().default(48),
  joint_attention_dim: count().default(15360),
  timestep_guidance_channels: only(256).default(256),
  mlp_ratio: positive().default(3),
  axes_dims_rope: axes().length(4, "four axes").default([32, 32, 32, 32]),
  rope_theta: positive().default(2000),
  eps: positive().default(1e-6),
  guidance_embeds: z.boolean("true or false").default(true),
}).refine((c) => (c.out_channels ?? c.in_channels) === c.in_channels, {
  path: ["out_channels"],
  error: "expected as many as in_channels",
}).refine((c) => sumOf(c.axes_dims_rope) === c.attention_head_dim, {
  path: ["axes_dims_rope"],
  error: "expected numbers that add up to attention_head_dim",
});

/** Checks a transformer's `config.json`; see `parseSD3Config`. */
export function parseFlux2Config(
  value: Readonly<Record<string, unknown>>,
  path: string,
): Flux2Config {
  checkClass(value, { path, className: "Flux2Transformer2DModel" });
  const c = parseConfig(SCHEMA, value, path);
  return {
    channels: c.in_channels,
    layers: c.num_layers,
    singleLayers: c.num_single_layers,
    heads: c.num_attention_heads,
    headWidth: c.attention_head_dim,
    textWidth: c.joint_attention_dim,
    mlpWidth: Math.trunc(c.num_attention_heads * c.attention_head_dim * c.mlp_ratio),
    readsGuidance: c.guidance_embeds,
    axes: c.axes_dims_rope,
    theta: c.rope_theta,
    epsilon: c.eps,
  };
}
