import { float, floatOf, int, intOf, ints, intsOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { attributesOf, dim, normalizeAxis } from "../infer/mod.ts";
import { type DType, sizeOf } from "../tensor.ts";
import { keep } from "./_keep.ts";
import { type Conversion, type Conversions, type ForeignNode, given, names } from "./_node.ts";

/** The axes from `first` on. */
const from = (x: Value, first: number): number[] =>
  x.shape.flatMap((_, i) => i >= first ? [i] : []);

/** x / √(mean x² + ε) over some axes. Returns that and the inverse root. */
export function rootMeanSquare(
  b: Builder,
  x: Value,
  { axes, epsilon }: { readonly axes: readonly number[]; readonly epsilon: number },
): readonly [Value, Value] {
  const inverse = b.reciprocal(b.sqrt(b.add(b.mean(b.mul(x, x), { axes }), epsilon)));
  return [b.mul(x, inverse), inverse];
}

/** Root-mean-square normalization over the axes from `axis` on, computed in float32 at least. */
export function rmsNorm(
  b: Builder,
  x: Value,
  { scale, axis, epsilon, inner }: {
    readonly scale: Value;
    readonly axis: number;
    readonly epsilon: number;
    readonly inner: DType;
  },
): readonly [Value, Value] {
  const axes = from(x, normalizeAxis(axis, x.shape.length));
  const [normal, inverse] = rootMeanSquare(b, b.cast(x, inner), { axes, epsilon });
  return [b.cast(b.mul(normal, b.cast(scale, inner)), x.dtype), inverse];
}

/** What ONNX computes a normalization in: float32 unless the model says that x's own will do. */
export function innerDType(node: ForeignNode, x: Value): DType {
  if (x.dtype === "float64") return x.dtype;
  return intOf(node.attributes, "stash_type", 1) === 1 ? "float32" : x.dtype;
}

const rmsNormalization: Conversion = (b, node) => {
  const x = given(node, 0);
  return rmsNorm(b, x, {
    scale: given(node, 1),
    axis: intOf(node.attributes, "axis", -1),
    epsilon: floatOf(node.attributes, "epsilon", 1e-5),
    inner: innerDType(node, x),
  });
};

/** x over its norm along an axis; where that is 0, 0. */
const lpNormalization: Conversion = (b, node) => {
  const x = given(node, 0);
  const axes = [normalizeAxis(intOf(node.attributes, "axis", -1), x.shape.length)];
  const p = intOf(node.attributes, "p", 2);
  if (p !== 1 && p !== 2) throw new ImportError(`Attribute p is ${p}, expected 1 or 2`);
  const norm = p === 1 ? b.sum(b.abs(x), { axes }) : b.l2Norm(x, { axes });
  return b.div(x, b.where(b.greater(norm, 0), norm, b.scalar(1, x.dtype)));
};

/** x without its mean over its standard deviation, to which ONNX adds 1e-9. */
const meanVariance: Conversion = (b, node) => {
  const x = given(node, 0);
  const axes = (intsOf(node.attributes, "axes") ?? [0, 2, 3]).map((axis) =>
    normalizeAxis(axis, x.shape.length)
  );
  const apart = b.sub(x, b.mean(x, { axes }));
  const deviation = b.sqrt(b.mean(b.mul(apart, apart), { axes }));
  return b.div(apart, b.add(deviation, 1e-9));
};

/** x / (k + α/n Σ x²)^β, the sum over n neighbouring channels. */
const localResponse: Conversion = (b, node) => {
  const x = given(node, 0);
  const { attributes } = node;
  const size = intOf(attributes, "size", 1);
  const [batch = 1, channels = 1, ...spatial] = x.shape;
  const squares = b.reshape(b.mul(x, x), [batch, 1, channels, sizeOf(spatial)]);
  // The mean with zeros beyond the first and last channel is the sum over n.
  const mean = b.call("AveragePool", [squares], {
    kernel_shape: ints([size, 1]),
    pads: ints([Math.floor((size - 1) / 2), 0, Math.ceil((size - 1) / 2), 0]),
    count_include_pad: int(1),
  });
  const base = b.add(
    b.mul(mean, floatOf(attributes, "alpha", 1e-4)),
    floatOf(attributes, "bias", 1),
  );
  const divisor = b.pow(base, floatOf(attributes, "beta", 0.75));
  return b.div(x, b.reshape(divisor, x.shape));
};

/**
 * With given statistics an affine map per channel, or per entry in the old form with `spatial` 0; in training with the
 * batch's own.
 */
const batchNorm: Conversion = (b, node) => {
  const x = given(node, 0);
  const [, scale, bias, mean, variance] = node.inputs.map((v) => v && b.cast(v, x.dtype));
  const { epsilon } = attributesOf("BatchNormalization", node.attributes);
  const isPerEntry = intOf(node.attributes, "spatial", 1) === 0;
  const isTraining = node.version < 14
    ? node.outputs.slice(1).some(Boolean)
    : intOf(node.attributes, "training_mode", 0) === 1;
  if (!isTraining && !isPerEntry) {
    return {
      op: "BatchNormalization",
      inputs: [x, scale, bias, mean, variance],
      attributes: { epsilon: float(epsilon) },
    };
  }
  if (scale === undefined || bias === undefined || mean === undefined || variance === undefined) {
    throw new ImportError("BatchNormalization needs five inputs");
  }
  const shaped = (v: Value) =>
    isPerEntry
      ? b.unsqueeze(v, [0])
      : b.reshape(v, x.shape.map((_, i) => i === 1 ? dim(v.shape, 0) : 1));
  const affine = (apart: Value, spread: Value) =>
    b.add(b.mul(b.div(apart, b.sqrt(b.add(spread, epsilon))), shaped(scale)), shaped(bias));
  if (!isTraining) return affine(b.sub(x, shaped(mean)), shaped(variance));
  const axes = x.shape.flatMap((_, i) => i === 1 || (isPerEntry && i > 0) ? [] : [i]);
  const [centre, momentum] = [
    b.mean(x, { axes }),
    floatOf(node.attributes, "momentum", 0.9),
  ];
  const apart = b.sub(x, centre);
  const spread = b.mean(b.mul(apart, apart), { axes });
  const running = (old: Value, now: Value) =>
    b.add(b.mul(old, momentum), b.mul(b.reshape(now, old.shape), 1 - momentum));
  return [
    affine(apart, spread),
    names(node, 1) ? running(mean, centre) : undefined,
    names(node, 2) ? running(variance, spread) : undefined,
  ];
};

/** Computed in float32, which is what graphs do with the operator as it is, for halves too. */
const layerNorm: Conversion = (b, node) => {
  const x = given(node, 0);
  const call = keep(node);
  return { ...call, inputs: node.inputs.map((v, i) => i === 0 ? x : v && b.cast(v, x.dtype)) };
};

/** ONNX Runtime's group normalization, of images whose channels are last unless it says otherwise. */
const groupNorm: Conversion = (b, node) => normalizedGroups(b, given(node, 0), node);

function normalizedGroups(b: Builder, x: Value, node: ForeignNode): Value {
  const [scale, bias] = [given(node, 1), given(node, 2)];
  const { attributes } = node;
  const isLast = intOf(attributes, "channels_last", 1) === 1;
  const rank = x.shape.length;
  const first = [0, rank - 1, ...from(x, 1).slice(0, -1)];
  const planes = isLast ? b.transpose(x, first) : x;
  const y = b.groupNorm(planes, {
    groups: intOf(attributes, "groups", 1),
    scale: b.cast(scale, x.dtype),
    bias: b.cast(bias, x.dtype),
    epsilon: floatOf(attributes, "epsilon", 1e-5),
    silu: intOf(attributes, "activation", 0) === 1,
  });
  return isLast ? b.transpose(y, [0, ...from(x, 2), 1]) : y;
}

/** The sum of x, what is skipped and a bias, normalized: outputs are that, mean and deviation unread, and the sum. */
const skip =
  (normalize: (b: Builder, x: Value, node: ForeignNode) => Value, bias: number) =>
  (b: Builder, node: ForeignNode) => {
    const [x, skipped] = [given(node, 0), given(node, 1)];
    const extra = node.inputs[bias];
    const pair = b.add(x, skipped);
    const sum = extra === undefined ? pair : b.add(pair, extra);
    if (names(node, 1) || names(node, 2)) {
      throw new ImportError(`Outputs 1 and 2 of ${node.op} are not supported`);
    }
    return [normalize(b, sum, node), undefined, undefined, sum];
  };

const skipLayerNorm = skip((b, x, node) => {
  const [, , scale, bias] = node.inputs;
  const epsilon = floatOf(node.attributes, "epsilon", 1e-12);
  return b.layerNorm(x, {
    scale: scale ?? b.fill(1, { dtype: x.dtype, shape: [dim(x.shape, -1)] }),
    epsilon,
    ...(bias && { bias }),
  });
}, 4);

const skipRmsNorm = skip((b, x, node) =>
  rmsNorm(b, x, {
    scale: given(node, 2),
    axis: -1,
    epsilon: floatOf(node.attributes, "epsilon", 1e-12),
    inner: innerDType(node, x),
  })[0], 3);

/** A group normalization of a sum; outputs are that and the sum. */
const skipGroupNorm: Conversion = (b, node) => {
  const [x, skipped, extra] = [given(node, 0), given(node, 3), node.inputs[4]];
  const wide = (v: Value) => v.shape.length === 2 ? b.unsqueeze(v, [1, 2]) : v;
  const pair = b.add(x, wide(skipped));
  const sum = extra === undefined ? pair : b.add(pair, extra);
  return [normalizedGroups(b, sum, node), sum];
};

/** Normalizations that graphs write in other operators. */
export const NORMALIZATIONS: Conversions = {
  BatchNormalization: batchNorm,
  LRN: localResponse,
  LayerNormalization: layerNorm,
  LpNormalization: lpNormalization,
  MeanVarianceNormalization: meanVariance,
  RMSNormalization: rmsNormalization,
  SimplifiedLayerNormalization: rmsNormalization,
  "com.microsoft.GroupNorm": groupNorm,
  "com.microsoft.SimplifiedLayerNormalization": rmsNormalization,
  "com.microsoft.SkipGroupNorm": skipGroupNorm,
  "com.microsoft.SkipLayerNormalization": skipLayerNorm,
  "com.microsoft.SkipSimplifiedLayerNormalization": skipRmsNorm,
};
