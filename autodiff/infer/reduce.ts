import type { Shape } from "../tensor.ts";
import { spec } from "./_spec.ts";
import {
  axesOf,
  constantInts,
  dim,
  type InferContext,
  normalizeAxis,
  required,
  requiredFloat,
  requiredInts,
  type,
} from "./_types.ts";

/** Axes a Reduce operator reduces; all where none are given, unless it says otherwise. */
export function reducedAxes(
  c: InferContext<{ readonly noop_with_empty_axes: boolean }>,
): readonly number[] {
  const { shape } = required(c, 0);
  const axes = axesOf(c, 1, shape.length) ?? [];
  return axes.length > 0 || c.attributes.noop_with_empty_axes ? axes : shape.map((_, i) => i);
}

function reducedShape(
  shape: Shape,
  axes: readonly number[],
  { keepdims }: { readonly keepdims: boolean },
): Shape {
  return keepdims
    ? shape.map((d, i) => axes.includes(i) ? 1 : d)
    : shape.filter((_, i) => !axes.includes(i));
}

const reduce = spec((r) => ({
  keepdims: r.flag("keepdims", true),
  noop_with_empty_axes: r.flag("noop_with_empty_axes", false),
}), (c) => {
  const { dtype, shape } = required(c, 0);
  return [type(dtype, reducedShape(shape, reducedAxes(c), c.attributes))];
});

const arg = spec((r) => ({
  axis: r.int("axis", 0),
  keepdims: r.flag("keepdims", true),
  select_last_index: r.flag("select_last_index", false),
}), (c) => {
  const { shape } = required(c, 0);
  const axis = normalizeAxis(c.attributes.axis, shape.length);
  return [type("int64", reducedShape(shape, [axis], c.attributes))];
});

const softmax = spec((r) => ({ axis: r.int("axis", -1) }), (c) => {
  const x = requiredFloat(c, 0);
  normalizeAxis(c.attributes.axis, x.shape.length);
  return [type(x.dtype, x.shape)];
});

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
  CumSum: spec((r) => ({
    exclusive: r.flag("exclusive", false),
    reverse: r.flag("reverse", false),
  }), (c) => {
    const x = required(c, 0);
    normalizeAxis(dim(requiredInts(c, 1, "Axis"), 0), x.shape.length);
    return [type(x.dtype, x.shape)];
  }),
  /** Outputs: the K largest (or smallest) entries along an axis, and their indices. */
  TopK: spec((r) => ({
    axis: r.int("axis", -1),
    largest: r.flag("largest", true),
    sorted: r.flag("sorted", true),
  }), (c) => {
    const x = required(c, 0);
    const k = constantInts(c.inputs[1], "K")?.[0];
    const axis = normalizeAxis(c.attributes.axis, x.shape.length);
    if (k === undefined || k < 1 || k > dim(x.shape, axis)) {
      throw new Error(`K is ${k}, expected 1 to ${dim(x.shape, axis)}, the size of axis ${axis}`);
    }
    const shape = x.shape.map((d, i) => i === axis ? k : d);
    return [type(x.dtype, shape), type("int64", shape)];
  }),
};
