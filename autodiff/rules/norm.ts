import { float, floatOf, int, intOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { normalizeAxis } from "../infer/_types.ts";
import { groupNormalize } from "../lower.ts";
import { cotangent, input, type Rule } from "./_types.ts";

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

const layerNorm: Rule = (c) => {
  const { b } = c;
  const [x, scale, dy] = [input(c, 0), input(c, 1), cotangent(c)];
  const axis = normalizeAxis(intOf(c.attributes, "axis", -1), x.shape.length);
  const axes = x.shape.flatMap((_, i) => i >= axis ? [i] : []);
  let [, mean, invStd] = c.outputs;
  if (mean === undefined || invStd === undefined) {
    [, mean, invStd] = b.op("LayerNormalization", c.inputs, c.attributes, 3);
  }
  if (mean === undefined || invStd === undefined) throw new RangeError("No statistics");
  invStd = b.cast(invStd, x.dtype);
  const normalized = b.mul(b.sub(x, b.cast(mean, x.dtype)), invStd);
  return [
    c.wants[0]
      ? normalizeGradient(b, { g: b.mul(dy, scale), normalized, invStd, axes })
      : undefined,
    c.wants[1] ? b.mul(dy, normalized) : undefined,
    c.wants[2] ? dy : undefined,
  ];
};

const groupNorm: Rule = (c) => {
  const { b } = c;
  const [x, scale, dy] = [input(c, 0), input(c, 1), cotangent(c)];
  const [y, invStd] = groupNormalize(b, x, c.attributes);
  const channel = [1, x.shape[1] ?? 1, ...x.shape.slice(2).map(() => 1)];
  const others = [0, ...x.shape.slice(2).map((_, i) => i + 2)];
  const rows = [invStd.shape[0] ?? 1, -1];
  let dx: Value | undefined;
  if (c.wants[0]) {
    const g = b.reshape(b.mul(dy, b.reshape(scale, channel)), rows);
    const flat = normalizeGradient(b, { g, normalized: b.reshape(y, rows), invStd, axes: [1] });
    dx = b.reshape(flat, x.shape);
  }
  return [
    dx,
    c.wants[1] ? b.sum(b.mul(dy, y), { axes: others, keepDims: false }) : undefined,
    c.wants[2] ? b.sum(dy, { axes: others, keepDims: false }) : undefined,
  ];
};

/** Instance normalization is group normalization with one channel a group. */
const instanceNorm: Rule = (c) => {
  const attributes = {
    num_groups: int(input(c, 0).shape[1] ?? 1),
    epsilon: float(floatOf(c.attributes, "epsilon", 1e-5)),
  };
  return groupNorm({ ...c, attributes });
};

/** Inference: y = scale (x - mean) / √(var + ε) + bias with stored statistics, an affine map per channel. */
const batchNorm: Rule = (c) => {
  const { b } = c;
  const [x, scale, , mean, variance] = [0, 1, 2, 3, 4].map((i) => input(c, i));
  const dy = cotangent(c);
  if (x === undefined || scale === undefined || mean === undefined || variance === undefined) {
    throw new RangeError("BatchNormalization has 5 inputs");
  }
  const channel = [1, scale.shape[0] ?? 1, ...x.shape.slice(2).map(() => 1)];
  const others = [0, ...x.shape.slice(2).map((_, i) => i + 2)];
  const invStd = b.reciprocal(b.sqrt(b.add(variance, floatOf(c.attributes, "epsilon", 1e-5))));
  const wide = (v: Value) => b.reshape(v, channel);
  const perChannel = (v: Value) => b.sum(v, { axes: others, keepDims: false });
  const normalized = () => b.mul(b.sub(x, wide(mean)), wide(invStd));
  const slope = b.mul(scale, invStd);
  return [
    c.wants[0] ? b.mul(dy, wide(slope)) : undefined,
    c.wants[1] ? perChannel(b.mul(dy, normalized())) : undefined,
    c.wants[2] ? perChannel(dy) : undefined,
    c.wants[3] ? b.neg(b.mul(slope, perChannel(dy))) : undefined,
    c.wants[4]
      ? b.mul(
        b.mul(perChannel(b.mul(dy, normalized())), b.mul(slope, invStd)),
        -0.5,
      )
      : undefined,
  ];
};

/** Rules of normalizations. */
export const NORM_RULES = {
  LayerNormalization: layerNorm,
  GroupNormalization: groupNorm,
  InstanceNormalization: instanceNorm,
  BatchNormalization: batchNorm,
} satisfies Record<string, Rule>;
