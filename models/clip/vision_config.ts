import { z } from "zod";
import { count, only, parseConfig, positive } from "../config.ts";
import type { ClipBlocksConfig } from "./blocks.ts";
import { INERT, INHERITED } from "./text_config.ts";

/** A CLIP vision tower: a vision transformer with a class token. */
export interface ClipVisionConfig extends ClipBlocksConfig {
  /** Width of the hidden states. */
  readonly width: number;
  /** Side of the square image, in pixels; a multiple of `patchSize`. */
  readonly imageSize: number;
  /** Side of a patch, in pixels. */
  readonly patchSize: number;
}

const SCHEMA = z.strictObject({
  ...INERT,
  ...INHERITED,
  model_type: only("clip_vision_model", "owlvit_vision_model").optional(),
  projection_dim: z.unknown().optional(),
  hidden_size: count().default(768),
  intermediate_size: count().default(3072),
  num_hidden_layers: count().default(12),
  num_attention_heads: count().default(12),
  num_channels: only(3).default(3),
  image_size: count().default(224),
  patch_size: count().default(32),
  hidden_act: only("quick_gelu", "gelu").default("quick_gelu"),
  layer_norm_eps: positive().default(1e-5),
}).refine((c) => c.hidden_size % c.num_attention_heads === 0, {
  path: ["num_attention_heads"],
  error: "a divisor of hidden_size",
}).refine((c) => c.image_size % c.patch_size === 0, {
  path: ["patch_size"],
  error: "a divisor of image_size",
});

/**
 * Checks the `vision_config` of a CLIP or OWL-ViT in transformers' format, with transformers' defaults for fields left
 * out. Throws `ConfigError` naming `path`, the field, what was found and what was expected.
 */
export function parseClipVisionConfig(
  value: Readonly<Record<string, unknown>>,
  path: string,
): ClipVisionConfig {
  const c = parseConfig(SCHEMA, value, path);
  return {
    width: c.hidden_size,
    imageSize: c.image_size,
    patchSize: c.patch_size,
    layers: c.num_hidden_layers,
    heads: c.num_attention_heads,
    mlpWidth: c.intermediate_size,
    activation: c.hidden_act,
    epsilon: c.layer_norm_eps,
  };
}
