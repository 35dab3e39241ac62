import {
  attributesOf,
  type AttributeValues,
  type OpName,
  swapLast,
} from "../autodiff/infer/mod.ts";
import {
  asChannels,
  type Attributes,
  type Builder,
  byteLengthOf,
  float,
  groupNormalize,
  groupNormGradient,
  type Node,
  quickGeluGradient,
  type Value,
} from "../autodiff/mod.ts";
import { attentionGradientInBlocks, attentionInBlocks } from "./attention_blocks.ts";
import { attentionGradient, attentionProbabilities, mergeHeads, splitHeads } from "./attention.ts";
import type { Lowering, LoweringContext, Lowerings } from "./_lowering.ts";
import { groupNormGradientInBlocks } from "./normalize_blocks.ts";
import type { Policy } from "./policy.ts";
import { turnedConv } from "./turned_conv.ts";
import { winogradConv } from "./winograd.ts";

type Operands = readonly (Value | undefined)[];

/** Input `i`, which the operator requires. */
function operand(inputs: Operands, i: number): Value {
  const v = inputs[i];
  if (v === undefined) throw new RangeError(`Input ${i} is missing`);
  return v;
}

// ONNX Runtime's own operators have float32 kernels only. Gradients are checked in float64.
const inFloat64 = <A>(lowering: Lowering<A>): Lowering<A> => (b, inputs, context) =>
  operand(inputs, 0).dtype === "float64" ? lowering(b, inputs, context) : "kernel";

function quickGelu(b: Builder, x: Value, alpha: number): Value {
  return x.dtype === "float64"
    // Not as x · sigmoid(αx), which ONNX Runtime would fuse into the operator it has no kernel for.
    ? b.div(x, b.add(b.exp(b.mul(x, -alpha)), 1))
    : b.call("QuickGelu", [x], { alpha: float(alpha) });
}

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

const attention: Lowering<AttributeValues["Attention"]> = (
  b,
  inputs,
  { attributes, policy, isRead },
) => {
  const [q, k, v] = [operand(inputs, 0), operand(inputs, 1), operand(inputs, 2)];
  const mask = inputs[3];
  const { num_heads: heads, scale } = attributes;
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

const attentionGrad: Lowering<AttributeValues["AttentionGrad"]> = (
  b,
  inputs,
  { attributes, policy },
) => {
  const at = (i: number) => operand(inputs, i);
  const operands = { q: at(0), k: at(1), v: at(2), out: at(4), dOut: at(5) };
  const { num_heads: heads, scale } = attributes;
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

const groupNorm: Lowering<AttributeValues["GroupNormalization"]> = (b, inputs, { attributes }) => {
  const [x, scale, bias] = [operand(inputs, 0), operand(inputs, 1), operand(inputs, 2)];
  const { normalized, invStd } = groupNormalize(b, x, attributes);
  const scaled = b.mul(b.reshape(normalized, x.shape), asChannels(b, scale, x));
  const shifted = b.add(scaled, asChannels(b, bias, x));
  return [
    attributes.activation === "silu" ? quickGelu(b, shifted, 1) : shifted,
    normalized,
    invStd,
    shifted,
  ];
};

const groupNormGrad: Lowering<AttributeValues["GroupNormalizationGrad"]> = (
  b,
  inputs,
  { attributes, policy },
) => {
  const [x, scale, bias, dy] = [0, 1, 2, 3].map((i) => operand(inputs, i));
  if (x === undefined || scale === undefined || bias === undefined || dy === undefined) return [];
  if (isRecomputed(inputs, policy)) {
    return groupNormGradientInBlocks(b, { x, scale, bias, dy }, attributes);
  }
  const arriving = attributes.activation === "silu"
    ? quickGeluGradient(b, { dy, x: operand(inputs, 7), y: operand(inputs, 4), alpha: 1 })
    : dy;
  const [normalized, invStd] = [operand(inputs, 5), operand(inputs, 6)];
  return groupNormGradient(b, { x, scale, dy: arriving, normalized, invStd });
};

/** How each operator is written out; those that are missing have kernels always. */
const LOWERINGS: Lowerings = {
  StopGradient: (b, inputs) => b.identity(operand(inputs, 0)),
  StraightThrough: (b, inputs) => b.identity(operand(inputs, 1)),
  QuickGelu: inFloat64((b, inputs, { attributes }) =>
    quickGelu(b, operand(inputs, 0), attributes.alpha)
  ),
  Gelu: inFloat64((b, inputs, { attributes }) => {
    if (attributes.approximate === "none") return "kernel";
    const x = operand(inputs, 0);
    const inner = b.mul(b.add(x, b.mul(b.pow(x, 3), 0.044715)), Math.sqrt(2 / Math.PI));
    return b.mul(b.mul(x, 0.5), b.add(b.tanh(inner), 1));
  }),
  FusedMatMul: inFloat64((b, inputs, { attributes }) => {
    const { transA, transB, alpha } = attributes;
    const swapped = (v: Value) => b.transpose(v, swapLast(v.shape.map((_, i) => i)));
    const [x, y] = [operand(inputs, 0), operand(inputs, 1)];
    return b.mul(b.matMul(transA ? swapped(x) : x, transB ? swapped(y) : y), alpha);
  }),
  GroupNormalization: groupNorm,
  GroupNormalizationGrad: groupNormGrad,
  Conv: winogradConv,
  ConvTranspose: turnedConv,
  Attention: attention,
  AttentionGrad: attentionGrad,
};

/** A node of operator `op` written in others, or "kernel": see `Lowering`. */
export function lowered<Op extends OpName>(
  op: Op,
  { b, inputs, attributes, ...context }: Omit<LoweringContext, "attributes"> & {
    readonly b: Builder;
    readonly inputs: Operands;
    readonly attributes: Attributes;
  },
): ReturnType<Lowering> {
  const lowering: Lowering<AttributeValues[Op]> | undefined = LOWERINGS[op];
  if (lowering === undefined) return "kernel";
  return lowering(b, inputs, { ...context, attributes: attributesOf(op, attributes) });
}

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
