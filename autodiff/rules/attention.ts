import { floatOf, intOf } from "../attributes.ts";
import { attentionProbabilities, mergeHeads, splitHeads } from "../attention.ts";
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { dim } from "../infer/_types.ts";
import { BYTES_PER_ELEMENT } from "../tensor.ts";
import { cotangent, input, output, type Rule } from "./_types.ts";

/** Blocks the probabilities that may be kept are divided into where they are recomputed. */
const BLOCKS = 8;

/**
 * O = P V, P = softmax(s Q Kᵀ + M), per head, with P recomputed in blocks of queries so that it never exists whole:
 * dV = Pᵀ dO, dS = P ∘ (dO Vᵀ - Σ dO ∘ O), dQ = s dS K, dK = s dSᵀ Q (Dao et al., FlashAttention, alg. 4).
 */
const attention: Rule = (c) => {
  const { b } = c;
  const mask = c.inputs[3];
  const heads = intOf(c.attributes, "num_heads", 1);
  const scale = floatOf(c.attributes, "scale", 1);
  const split = (x: Value) => splitHeads(b, x, heads);
  const [q, k, v] = [split(input(c, 0)), split(input(c, 1)), split(input(c, 2))];
  const [out, dOut] = [split(output(c)), split(cotangent(c))];
  const delta = b.sum(b.mul(dOut, out), { axes: [3] });
  const [batch = 1, , queries = 1] = q.shape;
  const bytesPerQuery = batch * heads * dim(k.shape, 2) * BYTES_PER_ELEMENT[q.dtype];
  const size = Math.max(1, Math.floor(b.attentionMemory / BLOCKS / bytesPerQuery));
  const parts: { q: Value; k: Value; v: Value; s: Value }[] = [];
  for (let start = 0; start < queries; start += size) {
    const rows = (x: Value) => queryRows(b, x, start, Math.min(start + size, queries));
    const [qRows, dRows] = [rows(q), rows(dOut)];
    const p = attentionProbabilities(b, qRows, { k, scale, mask: mask && rows(mask) });
    const s = b.mul(p, b.sub(b.fusedMatMul(dRows, v, { transB: true }), rows(delta)));
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
  return axis < 0 || x.shape[axis] === 1 ? x : b.slice(x, { axis, start, end });
}

/** The rule of fused attention. */
export const ATTENTION_RULES = { Attention: attention } satisfies Record<string, Rule>;
