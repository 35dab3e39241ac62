import {
  type Attributes,
  type Builder,
  float,
  int,
  ints,
  type OpName,
  type Shape,
  string,
  type Value,
} from "../../autodiff/mod.ts";
import { type GradientCase, uniform } from "../../autodiff/testing/mod.ts";

/** A gradient case and the operator it is there for. */
export interface OpCase extends GradientCase {
  readonly op: OpName;
  readonly note: string;
}

type Range = readonly [number, number];

/** Values spread over a range by a seed that depends on the shape: reproducible, and away from kinks where the range is. */
function values(shape: Shape, [low, high]: Range, seed: number) {
  const random = uniform(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  return { shape, values: Array.from({ length: size }, () => low + (high - low) * random()) };
}

/** Alternating signs at distance 0.2 to 1 from zero. */
function kinked(shape: Shape, seed: number) {
  const { values: magnitudes } = values(shape, [0.2, 1], seed);
  return { shape, values: magnitudes.map((v, i) => i % 2 === 0 ? v : -v) };
}

function one(
  op: OpName,
  note: string,
  { shapes, range = [-1, 1], attributes = {}, build, ...rest }: {
    readonly shapes: readonly Shape[];
    readonly range?: Range | "kink";
    readonly attributes?: Attributes;
    readonly build?: (b: Builder, inputs: readonly Value[]) => Value;
    readonly dtype?: "float32";
    readonly step?: number;
    readonly wrt?: readonly string[];
  },
): OpCase {
  const inputs = Object.fromEntries(shapes.map((shape, i) => [
    `x${i}`,
    range === "kink" ? kinked(shape, 17 * i + 5) : values(shape, range, 17 * i + 5),
  ]));
  return {
    op,
    note,
    inputs,
    build: (b, named) => {
      const all = shapes.flatMap((_, i) => named[`x${i}`] ?? []);
      return build === undefined ? b.call(op, all, attributes) : build(b, all);
    },
    ...rest,
  };
}

const S: Shape = [2, 3, 4];
const unary = (op: OpName, range: Range | "kink" = [-1, 1], attributes: Attributes = {}) =>
  one(op, "", { shapes: [S], range, attributes });
const first = ([x]: readonly Value[]): Value => at([x], 0);
function at(inputs: readonly (Value | undefined)[], i: number): Value {
  const v = inputs[i];
  if (v === undefined) throw new RangeError(`Input ${i} is missing`);
  return v;
}
/** Kernels that exist in float32 only and are linear or bilinear: a large step is exact, rounding alone is left. */
const bilinear = { dtype: "float32", step: 0.5 } as const;
const broadcasts = (op: OpName, range: Range = [0.5, 2]) => [
  one(op, "equal shapes", { shapes: [S, S], range }),
  one(op, "right broadcast", { shapes: [S, [4]], range }),
  one(op, "left broadcast", { shapes: [[3, 1], S], range }),
  one(op, "both broadcast", { shapes: [[2, 1, 4], [3, 1]], range }),
  one(op, "scalar", { shapes: [S, []], range }),
  one(op, "left only", { shapes: [S, [4]], range, wrt: ["x0"] }),
  one(op, "right only", { shapes: [S, [4]], range, wrt: ["x1"] }),
];
const reductions = (op: OpName, range: Range | "kink" = [0.5, 2]) => [
  one(op, "all axes", {
    shapes: [S],
    range,
    build: (b, x) => b.call(op, [first(x)], { keepdims: int(1) }),
  }),
  one(op, "negative axis", {
    shapes: [S],
    range,
    build: (b, x) => b.call(op, [first(x), b.ints([-1])], { keepdims: int(1) }),
  }),
  one(op, "two axes, not kept", {
    shapes: [S],
    range,
    build: (b, x) => b.call(op, [first(x), b.ints([0, 2])], { keepdims: int(0) }),
  }),
];
const conv = (
  note: string,
  x: Shape,
  w: Shape,
  a: { stride?: number[]; pads?: number[]; dilations?: number[]; group?: number; bias?: boolean } =
    {},
) =>
  one("Conv", note, {
    shapes: a.bias ? [x, w, [w[0] ?? 1]] : [x, w],
    attributes: {
      kernel_shape: ints(w.slice(2)),
      strides: ints(a.stride ?? w.slice(2).map(() => 1)),
      pads: ints(a.pads ?? [...w.slice(2), ...w.slice(2)].map(() => 0)),
      dilations: ints(a.dilations ?? w.slice(2).map(() => 1)),
      group: int(a.group ?? 1),
    },
    ...bilinear,
  });
const attention = (note: string, b: { queries?: number; keys?: number; mask?: Shape }) => {
  const [n, m] = [b.queries ?? 5, b.keys ?? 5];
  const shapes: Shape[] = [[2, n, 6], [2, m, 6], [2, m, 6], ...(b.mask ? [b.mask] : [])];
  return one("Attention", note, {
    shapes,
    attributes: { num_heads: int(2), scale: float(0.5) },
  });
};

/** Cases of every operator with a gradient rule. */
export const OP_CASES: readonly OpCase[] = [
  unary("Identity"),
  unary("Neg"),
  unary("Abs", "kink"),
  unary("Exp"),
  unary("Log", [0.5, 2]),
  unary("Sqrt", [0.5, 2]),
  unary("Reciprocal", [0.5, 2]),
  unary("Sin"),
  unary("Cos"),
  unary("Tanh"),
  unary("Sigmoid"),
  one("Erf", "float32 kernel", { shapes: [S], dtype: "float32" }),
  one("Gelu", "exact, float32 kernel", {
    shapes: [S],
    dtype: "float32",
    attributes: { approximate: string("none") },
  }),
  unary("Gelu", [-1, 1], { approximate: string("tanh") }),
  unary("QuickGelu", [-2, 2], { alpha: float(1.702) }),
  unary("QuickGelu", [-2, 2], { alpha: float(1) }),
  unary("Relu", "kink"),
  one("LeakyRelu", "float32 kernel", {
    shapes: [S],
    range: "kink",
    attributes: { alpha: float(0.3) },
    dtype: "float32",
  }),
  one("Elu", "float32 kernel", {
    shapes: [S],
    range: "kink",
    dtype: "float32",
    attributes: { alpha: float(1.5) },
  }),
  one("Softplus", "float32 kernel", { shapes: [S], dtype: "float32" }),
  one("Clip", "both bounds", {
    shapes: [S],
    range: "kink",
    build: (b, x) =>
      b.call(
        "Clip",
        [first(x), b.scalar(-0.61, first(x).dtype), b.scalar(0.57, first(x).dtype)],
      ),
    wrt: ["x0"],
  }),
  one("Clip", "lower bound", {
    shapes: [S],
    range: "kink",
    build: (b, x) => b.call("Clip", [first(x), b.scalar(0, first(x).dtype)]),
  }),
  ...broadcasts("Add"),
  ...broadcasts("Sub"),
  ...broadcasts("Mul"),
  ...broadcasts("Div"),
  ...broadcasts("Pow", [0.5, 2]),
  one("Min", "three inputs", { shapes: [S, [4], [3, 1]] }),
  one("Max", "three inputs", { shapes: [S, [4], [3, 1]] }),
  one("Sum", "three inputs", { shapes: [S, [4], [3, 1]] }),
  one("Where", "broadcast", {
    shapes: [S, [4]],
    range: "kink",
    build: (b, x) => b.where(b.greater(at(x, 0), 0), at(x, 0), at(x, 1)),
  }),
  one("Cast", "there and back", {
    shapes: [S],
    dtype: "float32",
    step: 0.5,
    build: (b, x) => b.cast(b.mul(b.cast(first(x), "float64"), 3), "float32"),
  }),
  one("MatMul", "matrices", { shapes: [[3, 4], [4, 5]] }),
  one("MatMul", "batch times matrix", { shapes: [[2, 3, 4], [4, 5]] }),
  one("MatMul", "batches broadcast", { shapes: [[2, 1, 3, 4], [3, 4, 2]] }),
  one("MatMul", "matrix times batch", { shapes: [[3, 4], [2, 4, 5]] }),
  one("MatMul", "vector times matrix", { shapes: [[4], [4, 5]] }),
  one("MatMul", "batch times vector", { shapes: [[2, 3, 4], [4]] }),
  one("MatMul", "dot product", { shapes: [[4], [4]] }),
  ...[0, 1].flatMap((a) =>
    [0, 1].flatMap((t) => [
      one("FusedMatMul", `transA ${a}, transB ${t}`, {
        shapes: [a ? [2, 4, 3] : [2, 3, 4], t ? [2, 5, 4] : [2, 4, 5]],
        attributes: { transA: int(a), transB: int(t), alpha: float(0.5) },
      }),
      one("Gemm", `transA ${a}, transB ${t}, bias`, {
        shapes: [a ? [4, 3] : [3, 4], t ? [5, 4] : [4, 5], [5]],
        attributes: { transA: int(a), transB: int(t), alpha: float(0.5), beta: float(2) },
      }),
    ])
  ),
  conv("3x3, same padding, bias", [2, 3, 5, 6], [4, 3, 3, 3], { pads: [1, 1, 1, 1], bias: true }),
  conv("1x1", [2, 3, 4, 5], [4, 3, 1, 1]),
  conv("stride 2, padding 1", [1, 3, 6, 7], [4, 3, 3, 3], { stride: [2, 2], pads: [1, 1, 1, 1] }),
  conv("stride 2, asymmetric padding", [1, 3, 6, 6], [4, 3, 3, 3], {
    stride: [2, 2],
    pads: [0, 0, 1, 1],
  }),
  conv("patches", [2, 3, 8, 4], [5, 3, 4, 2], { stride: [4, 2] }),
  conv("patches that leave a rest", [1, 3, 9, 5], [5, 3, 4, 2], { stride: [4, 2] }),
  conv("dilation", [1, 2, 7, 8], [3, 2, 3, 3], { dilations: [2, 2], pads: [2, 2, 2, 2] }),
  conv("groups", [1, 4, 5, 5], [6, 2, 3, 3], { group: 2, pads: [1, 1, 1, 1] }),
  conv("depthwise, stride 2", [1, 4, 6, 6], [4, 1, 3, 3], {
    group: 4,
    stride: [2, 2],
    pads: [1, 1, 1, 1],
  }),
  conv("padding beyond the kernel", [1, 2, 4, 4], [3, 2, 1, 1], { pads: [1, 1, 1, 1] }),
  conv("one dimension", [2, 3, 9], [4, 3, 3], { stride: [2], pads: [1, 1] }),
  ...[1, 2].map((stride) =>
    one("ConvTranspose", `stride ${stride}`, {
      shapes: [[1, 3, 4, 5], [3, 2, 3, 3], [2]],
      attributes: {
        kernel_shape: ints([3, 3]),
        strides: ints([stride, stride]),
        pads: ints([1, 1, 1, 1]),
        output_padding: ints([stride - 1, stride - 1]),
      },
      ...bilinear,
    })
  ),
  ...[0, 1].map((count) =>
    one("AveragePool", `padding counted ${count}`, {
      shapes: [[1, 2, 5, 6]],
      attributes: {
        kernel_shape: ints([3, 2]),
        strides: ints([2, 2]),
        pads: ints([1, 0, 1, 0]),
        count_include_pad: int(count),
      },
      ...bilinear,
    })
  ),
  one("GlobalAveragePool", "", { shapes: [[2, 3, 4, 5]], ...bilinear }),
  attention("self", {}),
  attention("cross", { queries: 3, keys: 7 }),
  attention("mask over keys", { mask: [1, 1, 1, 5] }),
  attention("full mask", { queries: 3, keys: 4, mask: [2, 2, 3, 4] }),
  // Their statistics are float32 whatever the input is.
  one("LayerNormalization", "last axis", {
    shapes: [S, [4], [4]],
    attributes: { axis: int(-1), epsilon: float(1e-3) },
    dtype: "float32",
  }),
  one("LayerNormalization", "two axes, no bias", {
    shapes: [S, [3, 4]],
    attributes: { axis: int(1), epsilon: float(1e-3) },
    dtype: "float32",
  }),
  one("GroupNormalization", "", {
    shapes: [[2, 6, 2, 3], [6], [6]],
    attributes: { num_groups: int(3), epsilon: float(1e-3) },
    dtype: "float32",
  }),
  one("InstanceNormalization", "float32 kernel", {
    shapes: [[2, 3, 4, 2], [3], [3]],
    attributes: { epsilon: float(1e-3) },
    dtype: "float32",
  }),
  one("BatchNormalization", "inference", {
    shapes: [[2, 3, 4], [3], [3], [3], [3]],
    range: [0.5, 2],
    attributes: { epsilon: float(1e-3) },
  }),
  ...reductions("ReduceSum"),
  ...reductions("ReduceMean"),
  ...reductions("ReduceMax"),
  ...reductions("ReduceMin"),
  ...reductions("ReduceL1", "kink"),
  ...reductions("ReduceL2"),
  ...reductions("ReduceSumSquare"),
  ...reductions("ReduceLogSumExp"),
  one("Softmax", "last axis", { shapes: [S] }),
  one("Softmax", "first axis", { shapes: [S], attributes: { axis: int(0) } }),
  one("LogSoftmax", "middle axis", { shapes: [S], attributes: { axis: int(1) } }),
  one("Reshape", "", { shapes: [S], build: (b, x) => b.reshape(first(x), [6, -1]) }),
  one("Flatten", "", { shapes: [S], attributes: { axis: int(2) } }),
  one("Squeeze", "", { shapes: [[2, 1, 3, 1]], build: (b, x) => b.squeeze(first(x), [1, -1]) }),
  one("Unsqueeze", "", { shapes: [S], build: (b, x) => b.unsqueeze(first(x), [0, -1]) }),
  one("Transpose", "", { shapes: [S], attributes: { perm: ints([1, 2, 0]) } }),
  one("Concat", "", { shapes: [S, [2, 1, 4], S], attributes: { axis: int(-2) } }),
  one("Concat", "one wanted", {
    shapes: [S, [2, 1, 4]],
    attributes: { axis: int(1) },
    wrt: ["x1"],
  }),
  one("Split", "one part unused", {
    shapes: [[2, 7]],
    build: (b, x) => {
      const [a, , c] = b.split(first(x), [2, 1, 4], 1);
      return b.concat([b.mul(at([c], 0), 2), at([a], 0)], 1);
    },
  }),
  one("Slice", "", {
    shapes: [S],
    build: (b, x) => b.slice(first(x), { axis: 1, start: 1, end: 3 }),
  }),
  one("Slice", "step 2", {
    shapes: [[2, 9]],
    build: (b, x) => b.slice(first(x), { axis: 1, start: 1, end: 8, step: 2 }),
  }),
  one("Slice", "reversed, step -2", {
    shapes: [[2, 9]],
    build: (b, x) => b.slice(first(x), { axis: 1, start: -1, end: -10, step: -2 }),
  }),
  ...(["constant", "edge", "reflect"] as const).map((mode) =>
    one("Pad", mode, {
      shapes: [[2, 4, 5]],
      build: (b, x) => b.pad(first(x), { pads: [0, 1, 2, 0, 3, 1], mode }),
    })
  ),
  one("Pad", "negative pads crop", {
    shapes: [[2, 4, 5]],
    build: (b, x) => b.pad(first(x), { pads: [0, -1, 0, 0, 2, -2] }),
  }),
  one("Expand", "", { shapes: [[3, 1]], build: (b, x) => b.expand(first(x), [2, 3, 4]) }),
  one("Tile", "", {
    shapes: [[2, 3]],
    build: (b, x) => b.call("Tile", [first(x), b.ints([2, 3])]),
  }),
  one("Gather", "rows, repeated and negative", {
    shapes: [[4, 3]],
    build: (b, x) => b.gather(first(x), b.ints([1, -1, 1])),
  }),
  one("Gather", "inner axis", {
    shapes: [S],
    build: (b, x) => b.gather(first(x), b.ints([2, 0]), 1),
  }),
  one("DepthToSpace", "", { shapes: [[1, 8, 2, 3]], attributes: { blocksize: int(2) } }),
  one("DepthToSpace", "CRD", {
    shapes: [[1, 8, 2, 3]],
    attributes: { blocksize: int(2), mode: string("CRD") },
  }),
  one("SpaceToDepth", "", { shapes: [[1, 2, 4, 6]], attributes: { blocksize: int(2) } }),
  one("Resize", "nearest, factor 2", {
    shapes: [[1, 2, 3, 4]],
    ...bilinear,
    build: (b, x) => b.upsampleNearest(first(x), 2),
  }),
];
