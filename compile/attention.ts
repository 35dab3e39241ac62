import type { Builder, Value } from "../autodiff/mod.ts";

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

/**
 * The gradients of attention by q, k, v and the mask, from the probabilities p [B, H, N, M] of the forward pass:
 * dV = Pᵀ dO, dS = P ∘ (dO Vᵀ - Σ dO ∘ O), dQ = s dS K, dK = s dSᵀ Q. What is subtracted takes no pass of its own over
 * the largest tensor: it is one more column of dO against a column of -1 in V.
 */
export function attentionGradient(
  b: Builder,
  operands: {
    readonly q: Value;
    readonly k: Value;
    readonly v: Value;
    readonly out: Value;
    readonly dOut: Value;
    readonly p: Value;
  },
  { heads, scale }: { readonly heads: number; readonly scale: number },
): readonly [Value, Value, Value, Value] {
  const { p } = operands;
  const split = (x: Value) => splitHeads(b, x, heads);
  const [q, k, v] = [split(operands.q), split(operands.k), split(operands.v)];
  const dOut = split(operands.dOut);
  const delta = headProducts(b, [operands.dOut, operands.out], heads);
  const minusOne = b.fill(-1, { dtype: v.dtype, shape: [1, 1, 1, 1] });
  const wideV = b.concat([v, b.expand(minusOne, [...v.shape.slice(0, 3), 1])], 3);
  const s = b.mul(p, b.fusedMatMul(b.concat([dOut, delta], 3), wideV, { transB: true }));
  return [
    mergeHeads(b, b.fusedMatMul(s, k, { alpha: scale })),
    mergeHeads(b, b.fusedMatMul(s, q, { transA: true, alpha: scale })),
    mergeHeads(b, b.fusedMatMul(p, dOut, { transA: true })),
    s,
  ];
}
