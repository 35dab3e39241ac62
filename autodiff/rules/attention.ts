import { floatOf, intOf } from "../attributes.ts";
import { attentionGradientInBlocks } from "../attention_blocks.ts";
import { headProducts, mergeHeads, splitHeads } from "../attention.ts";
import { byteLengthOf, type Value } from "../graph.ts";
import { cotangent, input, output, type Rule } from "./_types.ts";

/**
 * O = P V, P = softmax(s Q Kᵀ + M), per head. While P takes no more than `attentionMemory`, or where there is a mask,
 * it is kept from the forward pass: dV = Pᵀ dO, dS = P ∘ (dO Vᵀ - Σ dO ∘ O), dQ = s dS K, dK = s dSᵀ Q. Otherwise it is
 * recomputed in blocks, forward and backward, and never exists whole.
 *
 * Σ dO ∘ O is subtracted by the product itself, as one more column of dO against a column of -1 in V: a pass over the
 * largest tensor less (docs/performance.md).
 */
const attention: Rule = (c) => {
  const { b } = c;
  const mask = c.inputs[3];
  if (c.cotangents[1] !== undefined || c.cotangents[2] !== undefined) {
    throw new RangeError("Attention has no gradient through its probabilities; write it out");
  }
  const heads = intOf(c.attributes, "num_heads", 1);
  const scale = floatOf(c.attributes, "scale", 1);
  const p = output(c, 1);
  if (mask === undefined && byteLengthOf(p) > b.attentionMemory) {
    return attentionGradientInBlocks(b, {
      q: input(c, 0),
      k: input(c, 1),
      v: input(c, 2),
      out: output(c),
      logSumExp: output(c, 2),
      dOut: cotangent(c),
    }, { heads, scale });
  }
  const split = (x: Value) => splitHeads(b, x, heads);
  const [q, k, v] = [split(input(c, 0)), split(input(c, 1)), split(input(c, 2))];
  const dOut = split(cotangent(c));
  const delta = headProducts(b, [cotangent(c), output(c)], heads);
  const minusOne = b.fill(-1, { dtype: v.dtype, shape: [1, 1, 1, 1] });
  const wideV = b.concat([v, b.expand(minusOne, [...v.shape.slice(0, 3), 1])], 3);
  const s = b.mul(p, b.fusedMatMul(b.concat([dOut, delta], 3), wideV, { transB: true }));
  return [
    mergeHeads(b, b.fusedMatMul(s, k, { alpha: scale })),
    mergeHeads(b, b.fusedMatMul(s, q, { transA: true, alpha: scale })),
    mergeHeads(b, b.fusedMatMul(p, dOut, { transA: true })),
    mask && s,
  ];
};

/** The rule of fused attention. */
export const ATTENTION_RULES = { Attention: attention } satisfies Record<string, Rule>;
