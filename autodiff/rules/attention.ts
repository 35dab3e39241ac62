import { floatOf, intOf } from "../attributes.ts";
import { attentionProbabilities, mergeHeads, splitHeads } from "../attention.ts";
import type { Builder } from "../builder.ts";
import { byteLengthOf, type Value } from "../graph.ts";
import { dim } from "../infer/_types.ts";
import { cotangent, input, output, type Rule } from "./_types.ts";

/** Blocks the probabilities that may be kept are divided into where they are recomputed. */
const BLOCKS = 8;

/**
 * O = P V, P = softmax(s Q Kᵀ + M), per head: dV = Pᵀ dO, dS = P ∘ (dO Vᵀ - Σ dO ∘ O), dQ = s dS K, dK = s dSᵀ Q
 * (Dao et al., FlashAttention, alg. 4). P is kept from the forward pass while it takes no more than
 * `attentionMemory`, and recomputed in blocks of queries otherwise, so that it never exists whole.
 *
 * Σ dO ∘ O is subtracted by the product itself, as one more column of dO against a column of -1 in V: a pass over the
 * largest tensor less (docs/performance.md).
 */
const attention: Rule = (c) => {
  const { b } = c;
  const mask = c.inputs[3];
  if (c.cotangents[1] !== undefined) {
    throw new RangeError("Attention has no gradient through its probabilities; write it out");
  }
  const heads = intOf(c.attributes, "num_heads", 1);
  const scale = floatOf(c.attributes, "scale", 1);
  const split = (x: Value) => splitHeads(b, x, heads);
  const [q, k, v] = [split(input(c, 0)), split(input(c, 1)), split(input(c, 2))];
  const dOut = split(cotangent(c));
  const probabilities = output(c, 1);
  const [batch = 1, , queries = 1] = probabilities.shape;
  const perHead = b.reshape(b.mul(cotangent(c), output(c)), [
    batch,
    queries,
    heads,
    dim(q.shape, 3),
  ]);
  const delta = b.transpose(b.sum(perHead, { axes: [3] }), [0, 2, 1, 3]);
  const minusOne = b.fill(-1, { dtype: v.dtype, shape: [1, 1, 1, 1] });
  const wideV = b.concat([v, b.expand(minusOne, [...v.shape.slice(0, 3), 1])], 3);
  const wideOut = b.concat([dOut, delta], 3);
  const bytes = byteLengthOf(probabilities);
  const isKept = bytes <= b.attentionMemory;
  const size = isKept
    ? queries
    : Math.max(1, Math.floor(b.attentionMemory / BLOCKS / (bytes / queries)));
  const parts: { q: Value; k: Value; v: Value; s: Value }[] = [];
  for (let start = 0; start < queries; start += size) {
    const rows = (x: Value) => queryRows(b, x, start, Math.min(start + size, queries));
    const [qRows, dRows] = [rows(q), rows(dOut)];
    const p = isKept
      ? probabilities
      : attentionProbabilities(b, qRows, { k, scale, mask: mask && rows(mask) });
    const s = b.mul(p, b.fusedMatMul(rows(wideOut), wideV, { transB: true }));
    parts.push({
      q: b.fusedMatMul(s, k, { alpha: scale }),
      k: b.fusedMatMul(s, qRows, { transA: true, alpha: scale }),
      v: b.fusedMatMul(p, dRows, { transA: true }),
      s,
    });
  }
  return [
    mergeHeads(b, b.concat(parts.map((part) => part.q), 2)),
    mergeHeads(b, b.total(parts.map((part) => part.k))),
    mergeHeads(b, b.total(parts.map((part) => part.v))),
    mask && b.concat(parts.map((part) => part.s), 2),
  ];
};

/** Rows start..end of the second axis from the end, unless x is the same for all queries. */
function queryRows(b: Builder, x: Value, start: number, end: number): Value {
  const axis = x.shape.length - 2;
  const size = x.shape[axis] ?? 1;
  return size === 1 || size === end - start ? x : b.slice(x, { axis, start, end });
}

/** The rule of fused attention. */
export const ATTENTION_RULES = { Attention: attention } satisfies Record<string, Rule>;
