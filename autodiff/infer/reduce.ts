import { type Attributes, intOf } from "../attributes.ts";
import type { Shape } from "../tensor.ts";
import {
  axesOf,
  constantInts,
  dim,
  type Infer,
  type InferContext,
  normalizeAxis,
  required,
  requiredFloat,
  requiredInts,
  type,
} from "./_types.ts";

/** Axes a Reduce operator reduces; all where none are given, unless it says otherwise. */
export function reducedAxes(c: InferContext): readonly number[] {
  const { shape } = required(c, 0);
  const axes = axesOf(c, 1, shape.length) ?? [];
  const noop = intOf(c.attributes, "noop_with_empty_axes", 0) === 1;
  return axes.length > 0 || noop ? axes : shape.map((_, i) => i);
}

function reducedShape(shape: Shape, axes: readonly number[], attributes: Attributes): Shape {
  return intOf(attributes, "keepdims", 1) === 1
    ? shape.map((d, i) => axes.includes(i) ? 1 : d)
    : shape.filter((_, i) => !axes.includes(i));
}

const reduce: Infer = (c) => {
  const { dtype, shape } = required(c, 0);
  return [type(dtype, reducedShape(shape, reducedAxes(c), c.attributes))];
};

const arg: Infer = (c) => {
  const { shape } = required(c, 0);
  const axis = normalizeAxis(intOf(c.attributes, "axis", 0), shape.length);
  return [type("int64", reducedShape(shape, [axis], c.attributes))];
};

const softmax: Infer = (c) => {
  const x = requiredFloat(c, 0);
  normalizeAxis(intOf(c.attributes, "axis", -1), x.shape.length);
  return [type(x.dtype, x.shape)];
};

/** Reductions, normalized exponentials and orderings. */
export const REDUCE = {
  ReduceSum: reduce,
  ReduceMean: reduce,
  ReduceMax: reduce,
  ReduceMin: reduce,
  ReduceProd: reduce,
  ReduceL1: reduce,
  ReduceL2: reduce,
  ReduceSumSquare: reduce,
  ReduceLogSumExp: reduce,
  ReduceLogSum: reduce,
  ArgMax: arg,
  ArgMin: arg,
  Softmax: softmax,
  LogSoftmax: softmax,
  CumSum: (c) => {
    const x = required(c, 0);
    normalizeAxis(dim(requiredInts(c, 1, "Axis"), 0), x.shape.length);
    return [type(x.dtype, x.shape)];
  },
  /** Outputs: the K largest (or smallest) entries along an axis, and their indices. */
  TopK: (c) => {
    const x = required(c, 0);
    const k = constantInts(c.inputs[1], "K")?.[0];
    const axis = normalizeAxis(intOf(c.attributes, "axis", -1), x.shape.length);
    if (k === undefined || k < 1 || k > dim(x.shape, axis)) {
      throw new Error(`K is ${k}, expected 1 to ${dim(x.shape, axis)}, the size of axis ${axis}`);
    }
    const shape = x.shape.map((d, i) => i === axis ? k : d);
    return [type(x.dtype, shape), type("int64", shape)];
  },
} satisfies Record<string, Infer>;
