import { float, int } from "./attributes.ts";
import type { Builder } from "./builder.ts";
import type { Value } from "./graph.ts";
import { type AttributeValues, dim, normalizeAxis } from "./infer/mod.ts";
import { sizeOf } from "./tensor.ts";

/** A per-channel vector [C] shaped to broadcast against x [N, C, ...]. */
export function asChannels(b: Builder, vector: Value, x: Value): Value {
  return b.reshape(vector, x.shape.map((_, i) => i === 1 ? dim(vector.shape, 0) : 1));
}

type LayerAttributes = AttributeValues["LayerNormalization"];

/** Axes a LayerNormalization normalizes. */
export function normalizedAxes(
  x: Value,
  { axis }: Pick<LayerAttributes, "axis">,
): readonly number[] {
  const first = normalizeAxis(axis, x.shape.length);
  return x.shape.flatMap((_, i) => i >= first ? [i] : []);
}

/**
 * Mean and inverse standard deviation of x in its dtype, from the outputs of its LayerNormalization where they have
 * that: ONNX gives them in float32 alone.
 */
export function statisticsOf(
  b: Builder,
  x: Value,
  { outputs: [, mean, invStd], attributes }: {
    readonly outputs: readonly Value[];
    readonly attributes: LayerAttributes;
  },
): { readonly mean: Value; readonly invStd: Value } {
  if (x.dtype === "float32" && mean !== undefined && invStd !== undefined) return { mean, invStd };
  const axes = normalizedAxes(x, attributes);
  const centre = b.mean(x, { axes });
  const apart = b.sub(x, centre);
  const variance = b.mean(b.mul(apart, apart), { axes });
  return { mean: centre, invStd: b.reciprocal(b.sqrt(b.add(variance, attributes.epsilon))) };
}

/**
 * Group normalization without scale and bias, of x [B, C, ...]: one LayerNormalization over rows of
 * [B·groups, C/groups·...]. Returns the normalized rows and their inverse standard deviations [B·groups, 1].
 */
export function groupNormalize(
  b: Builder,
  x: Value,
  { num_groups, epsilon }: Pick<AttributeValues["GroupNormalization"], "num_groups" | "epsilon">,
): { readonly normalized: Value; readonly invStd: Value } {
  const rows = dim(x.shape, 0) * num_groups;
  const width = sizeOf(x.shape) / rows;
  const flat = b.reshape(x, [rows, width]);
  const ones = b.expand(b.fill(1, { dtype: x.dtype, shape: [1] }), [width]);
  const outputs = b.op("LayerNormalization", [flat, ones], {
    axis: int(-1),
    epsilon: float(epsilon),
  });
  const [normalized = flat] = outputs;
  return { normalized, ...statisticsOf(b, flat, { outputs, attributes: { axis: -1, epsilon } }) };
}

/**
 * The gradients of group normalization by x, scale and bias, from dy, all of x's shape [B, C, ...]: `normalizeGradient`
 * of the rules, with its means taken from sums per channel, which are the gradients of scale and bias too: Σ dy and
 * Σ dy ∘ x̂, the second as products of rows. That leaves four passes over the large tensors that write one.
 */
export function groupNormGradient(
  b: Builder,
  { x, scale, dy, normalized, invStd }: {
    readonly x: Value;
    readonly scale: Value;
    readonly dy: Value;
    /** What `groupNormalize` made of x. */
    readonly normalized: Value;
    readonly invStd: Value;
  },
): readonly [Value, Value, Value] {
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
    b.reshape(gradients(), x.shape),
    perChannel(products),
    perChannel(sums),
  ];
}
