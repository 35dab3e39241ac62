import { float, floatOf, int } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { byteLengthOf, type Value } from "../graph.ts";
import { dim } from "../infer/_types.ts";
import { groupNormGradientInBlocks } from "../normalize_blocks.ts";
import { asChannels, groupNormalize, isSilu, normalizedAxes, statisticsOf } from "../normalize.ts";
import { sizeOf } from "../tensor.ts";
import { cotangent, input, output, type Rule, type RuleContext } from "./_types.ts";

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

const layerNorm: Rule = (c) => {
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

/**
 * `normalizeGradient` with its means taken from sums per channel, which are the gradients of scale and bias too:
 * Σ dy and Σ dy ∘ x̂, the second as products of rows. That leaves four passes over the large tensors that write one.
 */
function perGroup(
  c: RuleContext,
  { normalized, invStd }: { normalized: Value; invStd: Value },
): readonly (Value | undefined)[] {
  const { b } = c;
  const [x, scale, dy] = [input(c, 0), input(c, 1), cotangent(c)];
  const [batch = 1, channels = 1] = x.shape;
  const [rows, width] = [dim(normalized.shape, 0), dim(normalized.shape, 1)];
  const [groups, size] = [rows / batch, sizeOf(x.shape) / (batch * channels)];
  const plane = (v: Value) => b.reshape(v, [batch * channels, 1, size]);
  const sums = b.sum(plane(dy), { axes: [2] });
  const products = b.fusedMatMul(plane(dy), plane(normalized), { transB: true });
  const gradients = () => {
    const grouped = (v: Value) => b.reshape(v, [batch, groups, channels / groups]);
    const scales = b.reshape(scale, [1, groups, channels / groups]);
    const slopes = b.mul(scales, b.reshape(invStd, [batch, groups, 1]));
    // σ⁻¹ mean(g) and σ⁻¹ mean(g ∘ x̂) of each group.
    const [shift, along] = [sums, products].map((v) => {
      const total = b.sum(b.mul(grouped(v), slopes), { axes: [2] });
      return b.reshape(b.mul(total, 1 / width), [rows, 1]);
    });
    const straight = b.mul(plane(dy), b.reshape(slopes, [batch * channels, 1, 1]));
    if (shift === undefined || along === undefined) throw new RangeError("A sum is missing");
    return b.sub(b.sub(b.reshape(straight, normalized.shape), b.mul(normalized, along)), shift);
  };
  const perChannel = (v: Value) =>
    b.sum(b.reshape(v, [batch, channels]), { axes: [0], keepDims: false });
  return [
    c.wants[0] ? b.reshape(gradients(), x.shape) : undefined,
    c.wants[1] ? perChannel(products) : undefined,
    c.wants[2] ? perChannel(sums) : undefined,
  ];
}

const groupNorm: Rule = (c) => {
  if (c.cotangents[1] !== undefined || c.cotangents[2] !== undefined) {
    throw new RangeError("GroupNormalization has no gradient through its normalized rows");
  }
  const [x, scale, bias, dy] = [input(c, 0), input(c, 1), input(c, 2), cotangent(c)];
  // While x is small, what the forward pass made of it is kept.
  return isSilu(c.attributes) || byteLengthOf(x) > c.b.normalizationMemory
    ? groupNormGradientInBlocks(c.b, { x, scale, bias, dy }, c)
    : perGroup(c, { normalized: output(c, 1), invStd: output(c, 2) });
};

/** Instance normalization is group normalization with one channel a group. */
const instanceNorm: Rule = (c) => {
  const attributes = {
    num_groups: int(dim(input(c, 0).shape, 1)),
    epsilon: float(floatOf(c.attributes, "epsilon", 1e-5)),
  };
  return perGroup(c, groupNormalize(c.b, input(c, 0), attributes));
};

/** Inference: y = scale (x - mean) / √(var + ε) + bias with given statistics, an affine map per channel. */
const batchNorm: Rule = (c) => {
  const { b } = c;
  const [x, scale, mean, variance, dy] = [
    input(c, 0),
    input(c, 1),
    input(c, 3),
    input(c, 4),
    cotangent(c),
  ];
  const invStd = b.reciprocal(b.sqrt(b.add(variance, floatOf(c.attributes, "epsilon", 1e-5))));
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
} satisfies Record<string, Rule>;
