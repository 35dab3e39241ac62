import { float, int } from "../attributes.ts";
import type { AttributeValues } from "../infer/mod.ts";
import { cotangent, input, output, type Rule, type Rules } from "./_types.ts";

/**
 * O = P V, P = softmax(s Q Kᵀ + M), per head. The gradient is an operator of its own: whether P is kept from the forward
 * pass or recomputed in blocks is for whoever compiles the graph to choose.
 */
const attention: Rule<AttributeValues["Attention"]> = (c) => {
  if (c.cotangents[1] !== undefined || c.cotangents[2] !== undefined) {
    throw new RangeError("Attention has no gradient through its probabilities; write it out");
  }
  return c.b.op("AttentionGrad", [
    input(c, 0),
    input(c, 1),
    input(c, 2),
    c.inputs[3],
    output(c),
    cotangent(c),
    output(c, 1),
    output(c, 2),
  ], { num_heads: int(c.attributes.num_heads), scale: float(c.attributes.scale) });
};

/** The rule of fused attention. */
export const ATTENTION_RULES = { Attention: attention } satisfies Rules;
