import type { Builder } from "./builder.ts";
import type { Value } from "./graph.ts";

/** [B, N, H·D] -> [B, H, N, D]. */
export function splitHeads(b: Builder, x: Value, heads: number): Value {
  const [batch = 1, tokens = 1, width = 1] = x.shape;
  return b.transpose(b.reshape(x, [batch, tokens, heads, width / heads]), [0, 2, 1, 3]);
}

/** [B, H, N, D] -> [B, N, H·D]. */
export function mergeHeads(b: Builder, x: Value): Value {
  const [batch = 1, heads = 1, tokens = 1, depth = 1] = x.shape;
  return b.reshape(b.transpose(x, [0, 2, 1, 3]), [batch, tokens, heads * depth]);
}

/** Σ x ∘ y over each head's part of rows of x and y, [B, N, H·D]: [B, H, N, 1]. */
export function headProducts(b: Builder, [x, y]: readonly [Value, Value], heads: number): Value {
  const [batch = 1, tokens = 1, width = 1] = x.shape;
  const perHead = b.reshape(b.mul(x, y), [batch, tokens, heads, width / heads]);
  return b.transpose(b.sum(perHead, { axes: [3] }), [0, 2, 1, 3]);
}

/** softmax(q kᵀ · scale + mask) of q [B, H, N, D] and k [B, H, M, D]: probabilities [B, H, N, M]. */
export function attentionProbabilities(
  b: Builder,
  q: Value,
  options: { readonly k: Value; readonly scale: number; readonly mask?: Value | undefined },
): Value {
  const { k, scale, mask } = options;
  const logits = b.fusedMatMul(q, k, { transB: true, alpha: scale });
  return b.softmax(mask === undefined ? logits : b.add(logits, mask));
}
