import { z } from "zod";
import { type ConfigPlace, count, only, parseConfig, positive } from "../config.ts";
import type { ClipBlocksConfig } from "./blocks.ts";
import { withoutBookkeeping } from "./bookkeeping.ts";
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

/** A side of a square, in one number or in two equal ones. */
const side = () =>
  z.union(
    [count(), z.tuple([count(), count()]).refine(([h, w]) => h === w).transform(([h]) => h)],
    {
      error: "a whole number above 0, or two equal ones",
    },
  );

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
  image_size: side().default(224),
  patch_size: side().default(32),
  hidden_act: only("quick_gelu", "gelu").default("quick_gelu"),
  layer_norm_eps: positive().default(1e-5),
}).refine((c) => c.hidden_size % c.num_attention_heads === 0, {
  path: ["num_attention_heads"],
  error: "expected a divisor of hidden_size",
}).refine((c) => c.image_size % c.patch_size === 0, {
  path: ["patch_size"],
  error: "expected a divisor of image_size",
});

/**
 * Checks the `vision_config` of a CLIP or OWL-ViT in transformers' format, with transformers' defaults for fields left
 * out. Throws `ConfigError` naming the file, the field, what was found and what was expected.
 */
export function parseClipVisionConfig(
  value: Readonly<Record<string, unknown>>,
  place: string | ConfigPlace,
): ClipVisionConfig {
  const c = parseConfig(SCHEMA, withoutBookkeeping(value), place);
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
