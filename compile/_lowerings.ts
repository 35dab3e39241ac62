import { type OpName, swapLast } from "../autodiff/infer/mod.ts";
import {
  asChannels,
  type Attributes,
  type Builder,
  byteLengthOf,
  float,
  floatOf,
  groupNormalize,
  groupNormGradient,
  intOf,
  isSilu,
  type Node,
  quickGeluGradient,
  stringOf,
  type Value,
} from "../autodiff/mod.ts";
import { attentionGradientInBlocks, attentionInBlocks } from "./attention_blocks.ts";
import { attentionGradient, attentionProbabilities, mergeHeads, splitHeads } from "./attention.ts";
import { groupNormGradientInBlocks } from "./normalize_blocks.ts";
import type { Policy } from "./policy.ts";
import { turnedConv } from "./turned_conv.ts";
import { winogradConv } from "./winograd.ts";

type Operands = readonly (Value | undefined)[];

interface LoweringContext {
  readonly attributes: Attributes;
  readonly policy: Policy;
  /** True where something reads output `i`. */
  readonly isRead: (i: number) => boolean;
}

/** An operator written in others: its outputs, the first at least. "kernel" where the runtime has one for it as it is. */
type Lowering = (
  b: Builder,
  inputs: Operands,
  context: LoweringContext,
) => Value | Operands | "kernel";

/** Input `i`, which the operator requires. */
function operand(inputs: Operands, i: number): Value {
  const v = inputs[i];
  if (v === undefined) throw new RangeError(`Input ${i} is missing`);
  return v;
}

// ONNX Runtime's own operators have float32 kernels only. Gradients are checked in float64.
const inFloat64 = (lowering: Lowering): Lowering => (b, inputs, context) =>
  operand(inputs, 0).dtype === "float64" ? lowering(b, inputs, context) : "kernel";

function quickGelu(b: Builder, x: Value, alpha: number): Value {
  return x.dtype === "float64"
    // Not as x · sigmoid(αx), which ONNX Runtime would fuse into the operator it has no kernel for.
    ? b.div(x, b.add(b.exp(b.mul(x, -alpha)), 1))
    : b.call("QuickGelu", [x], { alpha: float(alpha) });
}

const headsAndScale = (a: Attributes) => ({
  heads: intOf(a, "num_heads", 1),
  scale: floatOf(a, "scale", 1),
});

/**
 * Whether the gradient of an attention recomputes its probabilities in blocks, which then never exist whole. Masks are of
 * short texts.
 */
function isBlocked([, , , mask, , , p]: Operands, policy: Policy): boolean {
  return mask === undefined && p !== undefined && byteLengthOf(p) > policy.attentionMemory;
}

/** Whether the gradient of a group normalization computes that again. While x is small, what was made of it is kept. */
function isRecomputed([x]: Operands, policy: Policy): boolean {
  return x !== undefined && byteLengthOf(x) > policy.normalizationMemory;
}

const attention: Lowering = (b, inputs, { attributes, policy, isRead }) => {
  const [q, k, v] = [operand(inputs, 0), operand(inputs, 1), operand(inputs, 2)];
  const mask = inputs[3];
  const { heads, scale } = headsAndScale(attributes);
  const split = (x: Value) => splitHeads(b, x, heads);
  const probabilities = () => attentionProbabilities(b, split(q), { k: split(k), scale, mask });
  if (isRead(2)) {
    const block = policy.attentionBlock;
    const { out, logSumExp } = attentionInBlocks(b, { q, k, v }, { heads, scale, block });
    return [out, isRead(1) ? probabilities() : undefined, logSumExp];
  }
  // Where a mask of a short text is, being written out costs nothing, and the fused kernels are not all right: see
  // docs/decisions.md.
  if (isRead(1) || q.dtype === "float64" || mask !== undefined) {
    const p = probabilities();
    return [mergeHeads(b, b.matMul(p, split(v))), p];
  }
  return "kernel";
};

const attentionGrad: Lowering = (b, inputs, { attributes, policy }) => {
  const at = (i: number) => operand(inputs, i);
  const operands = { q: at(0), k: at(1), v: at(2), out: at(4), dOut: at(5) };
  const { heads, scale } = headsAndScale(attributes);
  // The probabilities or the logarithms are missing where `inputsRead` left them out.
  const logSumExp = inputs[7];
  return logSumExp === undefined
    ? attentionGradient(b, { ...operands, p: at(6) }, { heads, scale })
    : attentionGradientInBlocks(b, { ...operands, logSumExp }, {
      heads,
      scale,
      block: policy.attentionBlock,
    });
};

const groupNorm: Lowering = (b, inputs, { attributes }) => {
  const [x, scale, bias] = [operand(inputs, 0), operand(inputs, 1), operand(inputs, 2)];
  const { normalized, invStd } = groupNormalize(b, x, attributes);
  const scaled = b.mul(b.reshape(normalized, x.shape), asChannels(b, scale, x));
  const shifted = b.add(scaled, asChannels(b, bias, x));
  return [isSilu(attributes) ? quickGelu(b, shifted, 1) : shifted, normalized, invStd, shifted];
};

const groupNormGrad: Lowering = (b, inputs, { attributes, policy }) => {
  const [x, scale, bias, dy] = [0, 1, 2, 3].map((i) => operand(inputs, i));
  if (x === undefined || scale === undefined || bias === undefined || dy === undefined) return [];
  if (isRecomputed(inputs, policy)) {
    return groupNormGradientInBlocks(b, { x, scale, bias, dy }, attributes);
  }
  const arriving = isSilu(attributes)
    ? quickGeluGradient(b, { dy, x: operand(inputs, 7), y: operand(inputs, 4), alpha: 1 })
    : dy;
  const [normalized, invStd] = [operand(inputs, 5), operand(inputs, 6)];
  return groupNormGradient(b, { x, scale, dy: arriving, normalized, invStd });
};

/** How each operator is written out; those that are missing have kernels always. */
export const LOWERINGS: Partial<Record<OpName, Lowering>> = {
  StopGradient: (b, inputs) => b.identity(operand(inputs, 0)),
  StraightThrough: (b, inputs) => b.identity(operand(inputs, 1)),
  QuickGelu: inFloat64((b, inputs, { attributes }) =>
    quickGelu(b, operand(inputs, 0), floatOf(attributes, "alpha", 1.702))
  ),
  Gelu: inFloat64((b, inputs, { attributes }) => {
    if (stringOf(attributes, "approximate", "none") === "none") return "kernel";
    const x = operand(inputs, 0);
    const inner = b.mul(b.add(x, b.mul(b.pow(x, 3), 0.044715)), Math.sqrt(2 / Math.PI));
    return b.mul(b.mul(x, 0.5), b.add(b.tanh(inner), 1));
  }),
  FusedMatMul: inFloat64((b, inputs, { attributes }) => {
    const oriented = (v: Value, flag: string) =>
      intOf(attributes, flag, 0) === 1 ? b.transpose(v, swapLast(v.shape.map((_, i) => i))) : v;
    const [x, y] = [operand(inputs, 0), operand(inputs, 1)];
    const product = b.matMul(oriented(x, "transA"), oriented(y, "transB"));
    return b.mul(product, floatOf(attributes, "alpha", 1));
  }),
  GroupNormalization: groupNorm,
  GroupNormalizationGrad: groupNormGrad,
  Conv: (b, inputs, context) => winogradConv(b, inputs, context) ?? "kernel",
  ConvTranspose: (b, inputs, context) => turnedConv(b, inputs, context) ?? "kernel",
  Attention: attention,
  AttentionGrad: attentionGrad,
};

/** What a node is lowered from: its inputs, without those that the policy has no use for. */
export function inputsRead({ op, inputs }: Node, policy: Policy): Operands {
  const without = (...unread: readonly number[]) =>
    inputs.map((v, i) => unread.includes(i) ? undefined : v);
  switch (op) {
    case "AttentionGrad":
      return isBlocked(inputs, policy) ? without(6) : without(7);
    case "GroupNormalizationGrad":
      return isRecomputed(inputs, policy) ? without(4, 5, 6, 7) : inputs;
    default:
      return inputs;
  }
}
