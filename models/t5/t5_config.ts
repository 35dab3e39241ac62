import { z } from "zod";
import { count, inert, only, parseConfig, positive } from "../config.ts";

/** The encoder of a T5 with gated GELU (T5 1.1). */
export interface T5Config {
  readonly vocabSize: number;
  readonly width: number;
  readonly layers: number;
  readonly heads: number;
  readonly headWidth: number;
  readonly mlpWidth: number;
  readonly epsilon: number;
  /** Kinds of distances between tokens, both directions counted. */
  readonly buckets: number;
  /** Distances beyond are of one kind. */
  readonly maxDistance: number;
}

/** Fields of transformers' `T5Config`; what concerns decoding and training is left out. */
const SCHEMA = z.looseObject({
  ...inert("architectures", "dropout_rate", "initializer_factor", "torch_dtype", "dtype"),
  model_type: only("t5").optional(),
  vocab_size: count().default(32128),
  d_model: count().default(512),
  d_kv: count().default(64),
  d_ff: count().default(2048),
  num_layers: count().default(6),
  num_heads: count().default(8),
  relative_attention_num_buckets: z.int("an even number above 0").multipleOf(2).min(2).default(32),
  relative_attention_max_distance: count().default(128),
  layer_norm_epsilon: positive().default(1e-6),
  feed_forward_proj: only("gated-gelu"),
});

/**
 * Checks a T5 encoder's `config.json`. Throws `ConfigError` naming `path`, the field, what was found and what was
 * expected.
 */
export function parseT5Config(value: Readonly<Record<string, unknown>>, path: string): T5Config {
  const c = parseConfig(SCHEMA, value, path);
  return {
    vocabSize: c.vocab_size,
    width: c.d_model,
    layers: c.num_layers,
    heads: c.num_heads,
    headWidth: c.d_kv,
    mlpWidth: c.d_ff,
    epsilon: c.layer_norm_epsilon,
    buckets: c.relative_attention_num_buckets,
    maxDistance: c.relative_attention_max_distance,
  };
}
