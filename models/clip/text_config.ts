import { z } from "zod";
import { type ConfigPlace, count, inert, only, parseConfig, positive } from "../config.ts";
import type { ClipBlocksConfig } from "./blocks.ts";
import { withoutBookkeeping } from "./bookkeeping.ts";

/** A CLIP text tower. */
export interface ClipTextConfig extends ClipBlocksConfig {
  readonly vocabSize: number;
  /** Width of the hidden states. */
  readonly width: number;
  /** The most tokens a sequence can have. */
  readonly contextLength: number;
  /** Width of the projected embedding, for towers with a `text_projection`. */
  readonly projectionDim: number;
  /** The token the pooled state is taken at. 2 stands for "the largest id", as in OpenAI's old configurations. */
  readonly eosTokenId: number;
}

/** Fields of transformers' `CLIPTextConfig` that leave an inference pass as it is. */
export const INERT = inert(
  ...["architectures", "attention_dropout", "bos_token_id", "dropout", "dtype"],
  ...["initializer_factor", "initializer_range", "pad_token_id", "torch_dtype"],
  "transformers_version",
);

/** The fields that every old transformers release wrote into nested configurations; none is read by CLIP. */
export const INHERITED = inert(
  ...["add_cross_attention", "bad_words_ids", "begin_suppress_tokens", "chunk_size_feed_forward"],
  ...["cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty", "do_sample"],
  ...["early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty"],
  ...["finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "id2label"],
  ...["is_decoder", "is_encoder_decoder", "label2id", "length_penalty", "max_length"],
  ...["min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams"],
  ...["num_return_sequences", "output_attentions", "output_hidden_states", "output_scores"],
  ...["prefix", "problem_type", "pruned_heads", "remove_invalid_values"],
  ...["repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id"],
  ...["suppress_tokens", "task_specific_params", "temperature", "tf_legacy_loss"],
  ...["tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class", "top_k", "top_p"],
  ...["torchscript", "typical_p", "use_bfloat16"],
);

const SCHEMA = z.strictObject({
  ...INERT,
  ...INHERITED,
  model_type: only("clip_text_model").optional(),
  vocab_size: count().default(49408),
  hidden_size: count().default(512),
  intermediate_size: count().default(2048),
  projection_dim: count().default(512),
  num_hidden_layers: count().default(12),
  num_attention_heads: count().default(8),
  max_position_embeddings: count().default(77),
  hidden_act: only("quick_gelu", "gelu").default("quick_gelu"),
  layer_norm_eps: positive().default(1e-5),
  eos_token_id: z.int("one token id").min(0, "one token id").default(49407),
}).refine((c) => c.hidden_size % c.num_attention_heads === 0, {
  path: ["num_attention_heads"],
  error: "expected a divisor of hidden_size",
});

/**
 * Checks a text tower's `config.json`, or the `text_config` of a whole CLIP, with transformers' defaults for fields
 * left out. Throws `ConfigError` naming the file, the field, what was found and what was expected.
 */
export function parseClipTextConfig(
  value: Readonly<Record<string, unknown>>,
  place: string | ConfigPlace,
): ClipTextConfig {
  const c = parseConfig(SCHEMA, withoutBookkeeping(value), place);
  return {
    vocabSize: c.vocab_size,
    width: c.hidden_size,
    contextLength: c.max_position_embeddings,
    projectionDim: c.projection_dim,
    eosTokenId: c.eos_token_id,
    layers: c.num_hidden_layers,
    heads: c.num_attention_heads,
    mlpWidth: c.intermediate_size,
    activation: c.hidden_act,
    epsilon: c.layer_norm_eps,
  };
}
