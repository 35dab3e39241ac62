import { float, int, string } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { type AttributeValues, dim } from "../infer/mod.ts";
import {
  asChannels,
  groupNormalize,
  groupNormGradient,
  normalizedAxes,
  statisticsOf,
} from "../normalize.ts";
import { sizeOf } from "../tensor.ts";
import { cotangent, input, type Rule, type Rules } from "./_types.ts";

/**
 * The gradient through normalization: with x̂ the normalized rows and g = d/dx̂,
 * dx = σ⁻¹ (g - mean(g) - x̂ mean(g ∘ x̂)), means over the normalized axes.
 */
function normalizeGradient(
  b: Builder,
  { g, normalized, invStd, axes }: {
    g: Value;
    normalized: Value;
    invStd: Value;
    axes: readonly number[];
  },
): Value {
  const along = b.mul(normalized, b.mean(b.mul(g, normalized), { axes }));
  return b.mul(invStd, b.sub(b.sub(g, b.mean(g, { axes })), along));
}

/** Sum over all axes but the channels of x [N, C, ...]. */
export function sumPerChannel(b: Builder, x: Value): Value {
  const axes = x.shape.flatMap((_, i) => i === 1 ? [] : [i]);
  return b.sum(x, { axes, keepDims: false });
}

const layerNorm: Rule<AttributeValues["LayerNormalization"]> = (c) => {
  const { b } = c;
  const [x, scale] = [input(c, 0), input(c, 1)];
  const [dy, dMean, dInvStd] = c.cotangents;
  const axes = normalizedAxes(x, c.attributes);
  const { mean, invStd } = statisticsOf(b, x, c);
  const normalized = b.mul(b.sub(x, mean), invStd);
  const share = 1 / sizeOf(axes.map((i) => dim(x.shape, i)));
  const dx = [
    dy && normalizeGradient(b, { g: b.mul(dy, scale), normalized, invStd, axes }),
    dMean && b.expand(b.mul(b.cast(dMean, x.dtype), share), x.shape),
    // d σ⁻¹ = -σ⁻² x̂ dx / n
    dInvStd &&
    b.mul(b.mul(normalized, b.mul(invStd, invStd)), b.mul(b.cast(dInvStd, x.dtype), -share)),
  ].filter((g) => g !== undefined);
  const none = b.scalar(0, x.dtype);
  return [b.total(dx), dy ? b.mul(dy, normalized) : none, dy ?? none];
};

/** The gradient is an operator of its own: what it keeps of the forward pass is for whoever compiles the graph to choose. */
const groupNorm: Rule<AttributeValues["GroupNormalization"]> = (c) => {
  if (c.cotangents.slice(1).some((v) => v !== undefined)) {
    throw new RangeError("GroupNormalization has no gradient through its normalized rows");
  }
  const operands = [input(c, 0), input(c, 1), input(c, 2), cotangent(c)];
  const { num_groups, epsilon, activation } = c.attributes;
  return c.b.op("GroupNormalizationGrad", [...operands, ...c.outputs], {
    num_groups: int(num_groups),
    epsilon: float(epsilon),
    activation: string(activation),
  });
};

/** Instance normalization is group normalization with one channel a group. */
const instanceNorm: Rule<AttributeValues["InstanceNormalization"]> = (c) => {
  const [x, scale, dy] = [input(c, 0), input(c, 1), cotangent(c)];
  const attributes = { num_groups: dim(x.shape, 1), epsilon: c.attributes.epsilon };
  return groupNormGradient(c.b, { x, scale, dy, ...groupNormalize(c.b, x, attributes) });
};

/** Inference: y = scale (x - mean) / √(var + ε) + bias with given statistics, an affine map per channel. */
const batchNorm: Rule<AttributeValues["BatchNormalization"]> = (c) => {
  const { b } = c;
  const [x, scale, mean, variance, dy] = [
    input(c, 0),
    input(c, 1),
    input(c, 3),
    input(c, 4),
    cotangent(c),
  ];
  const invStd = b.reciprocal(b.sqrt(b.add(variance, c.attributes.epsilon)));
  const slope = b.mul(scale, invStd);
  const dx = b.mul(dy, asChannels(b, slope, x));
  // d/d log σ = -Σ dx (x - mean) = -scale · d/d scale
  const dScale = b.mul(sumPerChannel(b, b.mul(dy, b.sub(x, asChannels(b, mean, x)))), invStd);
  return [
    dx,
    dScale,
    sumPerChannel(b, dy),
    b.neg(sumPerChannel(b, dx)),
    b.mul(b.mul(dScale, b.mul(scale, b.mul(invStd, invStd))), -0.5),
  ];
};

/** Rules of normalizations. */
export const NORM_RULES = {
  LayerNormalization: layerNorm,
  GroupNormalization: groupNorm,
  InstanceNormalization: instanceNorm,
  BatchNormalization: batchNorm,
} satisfies Rules;
