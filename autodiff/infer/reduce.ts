import { intOf } from "../attributes.ts";
import {
  axesOf,
  constantInts,
  dim,
  type Infer,
  normalizeAxis,
  required,
  requiredFloat,
  type,
} from "./_types.ts";

const reduce: Infer = (c) => {
  const x = required(c, 0);
  const rank = x.shape.length;
  let axes = axesOf(c, 1, rank);
  if (axes === undefined || axes.length === 0) {
    if (intOf(c.attributes, "noop_with_empty_axes", 0) === 1) return [type(x.dtype, x.shape)];
    axes = x.shape.map((_, i) => i);
  }
  const gone = new Set(axes);
  const keep = intOf(c.attributes, "keepdims", 1) === 1;
  const shape = keep
    ? x.shape.map((d, i) => gone.has(i) ? 1 : d)
    : x.shape.filter((_, i) => !gone.has(i));
  return [type(x.dtype, shape)];
};

const arg: Infer = (c) => {
  const x = required(c, 0);
  const axis = normalizeAxis(intOf(c.attributes, "axis", 0), x.shape.length);
  const keep = intOf(c.attributes, "keepdims", 1) === 1;
  const shape = keep
    ? x.shape.map((d, i) => i === axis ? 1 : d)
    : x.shape.filter((_, i) => i !== axis);
  return [type("int64", shape)];
};

const softmax: Infer = (c) => {
  const x = requiredFloat(c, 0);
  normalizeAxis(intOf(c.attributes, "axis", -1), x.shape.length);
  return [type(x.dtype, x.shape)];
};

/** Reductions, normalised exponentials and orderings. */
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
    return [type(x.dtype, x.shape)];
  },
  TopK: (c) => {
    const x = required(c, 0);
    const k = constantInts(c.inputs[1], "K")?.[0];
    if (k === undefined) throw new Error("Input 1 (K) is missing");
    const axis = normalizeAxis(intOf(c.attributes, "axis", -1), x.shape.length);
    if (k > dim(x.shape, axis)) {
      throw new Error(`K ${k} exceeds the ${dim(x.shape, axis)} entries of axis ${axis}`);
    }
    const shape = x.shape.map((d, i) => i === axis ? k : d);
    return [type(x.dtype, shape), type("int64", shape)];
  },
} satisfies Record<string, Infer>;
