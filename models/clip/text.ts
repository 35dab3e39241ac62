import { int, type Value } from "../../autodiff/mod.ts";
import { layerNorm, linear } from "../nn.ts";
import type { WeightScope } from "../weight_scope.ts";
import { clipBlocks } from "./blocks.ts";
import type { ClipTextConfig } from "./text_config.ts";

/** Low enough that its exponential is zero beside any logit, and finite on every provider. */
const MASKED = -1e30;

/** What a CLIP text tower gives; parts that no output needs are not computed. */
export interface ClipTextStates {
  /** [B, N, width] after the final layer normalization. */
  readonly last: Value;
  /** The embeddings, then the state after each block, without the final normalization: [B, N, width] each. */
  readonly hidden: readonly Value[];
  /** [B, width]: `last` at the end-of-text token. */
  readonly pooled: Value;
}

/**
 * CLIP's text tower under transformers' names (`CLIPTextModel`): token and position embeddings, blocks with a causal
 * mask, a final layer normalization. `s` is where `embeddings`, `encoder` and `final_layer_norm` lie: see
 * `clipTextScope`. `ids` are int64 [B, N] with N at most `contextLength`; padding is attended to, as transformers
 * does when no attention mask is given.
 */
export function clipText(s: WeightScope, ids: Value, config: ClipTextConfig): ClipTextStates {
  const { b } = s;
  const [batch = 1, tokens = 1] = ids.shape;
  const { width, vocabSize, contextLength } = config;
  if (ids.shape.length !== 2 || tokens > contextLength) {
    throw new RangeError(
      `Token ids have shape [${ids.shape}], expected [batch, at most ${contextLength}]`,
    );
  }
  const positions = s.get("embeddings.position_embedding.weight", [contextLength, width]);
  const embedded = b.add(
    s.rowsAt(ids, "embeddings.token_embedding.weight", [vocabSize, width]),
    tokens === contextLength ? positions : b.slice(positions, { axis: 0, start: 0, end: tokens }),
  );
  const hidden = clipBlocks(s.at("encoder"), embedded, { config, mask: causalMask(s, tokens) });
  const last = layerNorm(s.at("final_layer_norm"), hidden.at(-1) ?? embedded, config.epsilon);
  const rows = Array.from({ length: batch }, (_, i) => i * tokens);
  const pooled = b.gather(
    b.reshape(last, [batch * tokens, width]),
    b.add(endOfText(s, ids, config.eosTokenId), b.ints(rows)),
  );
  return { last, hidden, pooled };
}

/**
 * The scope of the tower inside a state dict: transformers 4 and all `...WithProjection` models put it under
 * `text_model`, transformers 5 saves a bare `CLIPTextModel` without that prefix.
 */
export function clipTextScope(s: WeightScope): WeightScope {
  return s.has("text_model.final_layer_norm.weight") ? s.at("text_model") : s;
}

/** The pooled state in the joint embedding space, [B, projectionDim]; `s` holds `text_projection.weight`. */
export function clipTextProjection(
  s: WeightScope,
  pooled: Value,
  { projectionDim }: ClipTextConfig,
): Value {
  return linear(s.at("text_projection"), pooled, projectionDim);
}

function causalMask({ b, dtype }: WeightScope, tokens: number): Value {
  const mask = Array.from(
    { length: tokens * tokens },
    (_, i) => i % tokens > Math.floor(i / tokens) ? MASKED : 0,
  );
  return b.table(mask, { dtype, shape: [1, 1, tokens, tokens] });
}

/** int64 [B]: the first position of the end-of-text token, or of the largest id where it is written as 2. */
function endOfText({ b }: WeightScope, ids: Value, eosTokenId: number): Value {
  const marks = eosTokenId === 2 ? ids : b.equal(ids, eosTokenId);
  return b.call("ArgMax", [b.cast(marks, "int32")], { axis: int(1), keepdims: int(0) });
}
