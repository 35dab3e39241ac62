import { z } from "zod";
import { count, only, parseConfig, positive } from "../config.ts";

/** The language model of a Qwen3, as a text encoder. */
export interface Qwen3Config {
  readonly vocabSize: number;
  readonly width: number;
  readonly layers: number;
  readonly heads: number;
  /** Heads of keys and values, each shared by as many queries. */
  readonly sharedHeads: number;
  readonly headWidth: number;
  readonly mlpWidth: number;
  readonly epsilon: number;
  readonly theta: number;
}

const rope = z.looseObject({
  rope_theta: positive(),
  rope_type: only("default").default("default"),
});

/** Fields of transformers' `Qwen3Config`; what concerns decoding and training is left out. */
const SCHEMA = z.looseObject({
  model_type: only("qwen3").optional(),
  vocab_size: count().default(151936),
  hidden_size: count().default(4096),
  intermediate_size: count().default(22016),
  num_hidden_layers: count().default(32),
  num_attention_heads: count().default(32),
  num_key_value_heads: count().default(32),
  head_dim: count().default(128),
  hidden_act: only("silu").default("silu"),
  rms_norm_eps: positive().default(1e-6),
  // transformers 4 wrote theta beside the others.
  rope_theta: positive().default(10000),
  rope_scaling: only(null).default(null),
  rope_parameters: rope.optional(),
  attention_bias: only(false).default(false),
  use_sliding_window: only(false).default(false),
}).refine((c) => c.num_attention_heads % c.num_key_value_heads === 0, {
  path: ["num_key_value_heads"],
  error: "expected a divisor of num_attention_heads",
});

/** Checks a Qwen3's `config.json`. Throws `ConfigError` naming `path`, the field, what was found and what was expected. */
export function parseQwen3Config(
  value: Readonly<Record<string, unknown>>,
  path: string,
): Qwen3Config {
  const c = parseConfig(SCHEMA, value, path);
  return {
    vocabSize: c.vocab_size,
    width: c.hidden_size,
    layers: c.num_hidden_layers,
    heads: c.num_attention_heads,
    sharedHeads: c.num_key_value_heads,
    headWidth: c.head_dim,
    mlpWidth: c.intermediate_size,
    epsilon: c.rms_norm_eps,
    theta: c.rope_parameters?.rope_theta ?? c.rope_theta,
  };
}
