import { z } from "zod";
import { checkClass, count, only, parseConfig, positive } from "../config.ts";
import { axes, sumOf } from "./_config.ts";

/** A `ZImageTransformer2DModel`. */
export interface ZImageConfig {
  readonly channels: number;
  readonly width: number;
  readonly layers: number;
  /** Of the image alone before the joint layers, and as many of the text. */
  readonly refinerLayers: number;
  readonly heads: number;
  readonly epsilon: number;
  readonly textWidth: number;
  readonly theta: number;
  readonly timeScale: number;
  /** Features of the axes of positions (text, row, column), and how many positions each has. */
  readonly axes: readonly number[];
  readonly lengths: readonly number[];
}

/** All fields of diffusers' `ZImageTransformer2DModel` with its defaults. */
const SCHEMA = z.strictObject({
  all_patch_size: z.tuple([only(2)], "[2]").default([2]),
  all_f_patch_size: z.tuple([only(1)], "[1]").default([1]),
  in_channels: count().default(16),
  dim: count().default(3840),
  n_layers: count().default(30),
  n_refiner_layers: count().default(2),
  n_heads: count().default(30),
  n_kv_heads: count().default(30),
  norm_eps: positive().default(1e-5),
  qk_norm: z.boolean("true or false").default(true),
  cap_feat_dim: count().default(2560),
  siglip_feat_dim: only(null).default(null),
  rope_theta: positive().default(256),
  t_scale: positive().default(1000),
  axes_dims: axes().length(3, "three axes").default([32, 48, 48]),
  axes_lens: z.array(count(), "a list").length(3, "three axes").default([1024, 512, 512]),
}).refine((c) => c.n_kv_heads === c.n_heads, {
  path: ["n_kv_heads"],
  error: "expected as many as n_heads",
}).refine((c) => sumOf(c.axes_dims) * c.n_heads === c.dim, {
  path: ["axes_dims"],
  error: "expected numbers that add up to dim divided by n_heads",
});

/** Checks a transformer's `config.json`; see `parseSD3Config`. */
export function parseZImageConfig(
  value: Readonly<Record<string, unknown>>,
  path: string,
): ZImageConfig {
  checkClass(value, { path, className: "ZImageTransformer2DModel" });
  const c = parseConfig(SCHEMA, value, path);
  return {
    channels: c.in_channels,
    width: c.dim,
    layers: c.n_layers,
    refinerLayers: c.n_refiner_layers,
    heads: c.n_heads,
    epsilon: c.norm_eps,
    textWidth: c.cap_feat_dim,
    theta: c.rope_theta,
    timeScale: c.t_scale,
    axes: c.axes_dims,
    lengths: c.axes_lens,
  };
}
