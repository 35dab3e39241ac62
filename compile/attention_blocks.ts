import type { Builder, Value } from "../autodiff/mod.ts";
import { headProducts, mergeHeads, splitHeads } from "./attention.ts";

/** What attention in blocks of queries reads: q [B, N, H·D], k and v [B, M, H·D]. */
export interface AttentionOperands {
  readonly q: Value;
  readonly k: Value;
  readonly v: Value;
}

/** Number of heads, the factor of the logits, and how many logits a block may have. */
export interface BlockedAttention {
  readonly heads: number;
  readonly scale: number;
  readonly block: number;
}

/**
 * softmax(s q kᵀ) v head by head in blocks of queries, so that logits never leave the cache. Returns [B, N, H·D] and
 * log Σ exp of each query's logits, [B, H, N, 1].
 */
export function attentionInBlocks(
  b: Builder,
  { q, k, v }: AttentionOperands,
  { heads, scale, block }: BlockedAttention,
): { readonly out: Value; readonly logSumExp: Value } {
  const blocks = blocksOf({ q, k }, block);
  const rows = [
    blocked(b, splitHeads(b, b.mul(q, scale), heads), blocks),
    byHead(b, b.transpose(splitHeads(b, k, heads), [0, 1, 3, 2])),
    byHead(b, splitHeads(b, v, heads)),
  ];
  const results = b.scan({ rows }, (head, { rows: [queries, keys, values] }) => {
    if (queries === undefined || keys === undefined || values === undefined) throw missing();
    const made = head.scan({ rows: [queries] }, (block, { rows: [query] }) => {
      if (query === undefined) throw missing();
      const logits = block.matMul(query, keys);
      const p = block.softmax(logits);
      // The largest probability is exp(largest logit) / Σ exp.
      const [top, share] = [logits, p].map((x) => block.maxOf(x, { axes: [1] }));
      if (top === undefined || share === undefined) throw missing();
      return { rows: [block.matMul(p, values), block.sub(top, block.log(share))] };
    });
    return { rows: made };
  });
  const [out, logSumExp] = results.map((x) => joined(b, x, { q, heads }));
  if (out === undefined || logSumExp === undefined) throw missing();
  return { out: mergeHeads(b, out), logSumExp };
}

/**
 * The gradients of `attentionInBlocks` by q, k and v, each of its operand's shape. In each block, keys by queries,
 * P = exp(s k qᵀ - L) with L from the forward pass, dS = P ∘ (v dOᵀ - Σ dO ∘ O), dV = P dO, dK = s dS q, dQ = s dSᵀ k
 * (Dao et al., FlashAttention, alg. 4). What is subtracted takes no pass of its own: it is one more column of a factor
 * against a column of ones.
 */
export function attentionGradientInBlocks(
  b: Builder,
  { q, k, v, out, logSumExp, dOut }: AttentionOperands & {
    readonly out: Value;
    readonly logSumExp: Value;
    readonly dOut: Value;
  },
  { heads, scale, block }: BlockedAttention,
): readonly [Value, Value, Value] {
  const blocks = blocksOf({ q, k }, block);
  const split = (x: Value) => splitHeads(b, x, heads);
  const [qs, ks, vs, os] = [split(b.mul(q, scale)), split(k), split(v), split(dOut)];
  const delta = headProducts(b, [dOut, out], heads);
  const column = (x: Value, value: number) =>
    b.expand(b.fill(value, { dtype: x.dtype, shape: [1, 1, 1, 1] }), [...x.shape.slice(0, 3), 1]);
  const wide = (x: Value, last: Value) => b.concat([x, last], 3);
  const turned = (x: Value) => b.transpose(x, [0, 1, 3, 2]);
  const rows = [
    turned(blocked(b, wide(qs, b.neg(logSumExp)), blocks)),
    blocked(b, qs, blocks),
    turned(blocked(b, wide(os, delta), blocks)),
    blocked(b, os, blocks),
    byHead(b, wide(ks, column(ks, 1))),
    byHead(b, wide(vs, column(vs, -1))),
    byHead(b, turned(ks)),
  ];
  const results = b.scan({ rows }, (head, { rows }) => {
    const [turnedQ, plainQ, turnedO, plainO, wideK, wideV, turnedK] = rows;
    if (turnedQ === undefined || plainQ === undefined || turnedO === undefined) throw missing();
    if (plainO === undefined || wideK === undefined || wideV === undefined) throw missing();
    if (turnedK === undefined) throw missing();
    const [keys = 1, depth = 1] = [k.shape[1], turnedK.shape[0]];
    const zero = head.expand(head.scalar(0, q.dtype), [keys, depth]);
    const made = head.scan(
      { states: [zero, zero], rows: [turnedQ, plainQ, turnedO, plainO] },
      (block, { states: [dK, dV], rows: [qT, q, oT, o] }) => {
        if (dK === undefined || dV === undefined || qT === undefined) throw missing();
        if (q === undefined || oT === undefined || o === undefined) throw missing();
        const p = block.exp(block.matMul(wideK, qT));
        const s = block.mul(p, block.matMul(wideV, oT));
        return {
          states: [block.gemm(s, q, { bias: dK }), block.gemm(p, o, { bias: dV })],
          rows: [block.matMul(turnedK, s)],
        };
      },
    );
    return { rows: made };
  });
  const [dK, dV, dQ] = results;
  if (dK === undefined || dV === undefined || dQ === undefined) throw missing();
  const merged = (x: Value) =>
    mergeHeads(b, b.reshape(x, [k.shape[0] ?? 1, heads, ...x.shape.slice(1)]));
  const turnedBack = joined(b, b.transpose(dQ, [0, 1, 3, 2]), { q, heads });
  return [b.mul(mergeHeads(b, turnedBack), scale), merged(dK), merged(dV)];
}

/** How many blocks, and how many queries in each; the last may be filled up with zeros. */
interface Blocks {
  readonly count: number;
  readonly size: number;
}

function blocksOf({ q, k }: Pick<AttentionOperands, "q" | "k">, block: number): Blocks {
  const [queries = 1, keys = 1] = [q.shape[1], k.shape[1]];
  const count = Math.min(queries, Math.ceil(queries * keys / block));
  const size = Math.ceil(queries / count);
  return { count: Math.ceil(queries / size), size };
}

/** [B, H, N, D] as [B·H, blocks, queries, D], filled up with zeros: such a query adds nothing to any gradient. */
function blocked(b: Builder, x: Value, { count, size }: Blocks): Value {
  const [batch = 1, heads = 1, tokens = 1, depth = 1] = x.shape;
  const filled = b.pad(x, { pads: [0, 0, 0, 0, 0, 0, count * size - tokens, 0] });
  return b.reshape(filled, [batch * heads, count, size, depth]);
}

/** [B·H, blocks, queries, D] back to [B, H, N, D]. */
function joined(
  b: Builder,
  x: Value,
  { q, heads }: { readonly q: Value; readonly heads: number },
): Value {
  const [batch = 1, tokens = 1] = q.shape;
  const [, count = 1, size = 1, depth = 1] = x.shape;
  const whole = b.reshape(x, [batch, heads, count * size, depth]);
  return count * size === tokens ? whole : b.slice(whole, { axis: 2, start: 0, end: tokens });
}

/** [B, H, ...] as [B·H, ...]. */
function byHead(b: Builder, x: Value): Value {
  const [batch = 1, heads = 1, ...rest] = x.shape;
  return b.reshape(x, [batch * heads, ...rest]);
}

function missing(): RangeError {
  return new RangeError("A value of an attention's graph is missing");
}
