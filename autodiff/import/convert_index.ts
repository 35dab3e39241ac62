import { int, intOf, intsOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { constantInts, dim, normalizeAxis } from "../infer/_types.ts";
import { type DType, sizeOf } from "../tensor.ts";
import { type Conversion, type Conversions, given } from "./_node.ts";
import { dtypeOf } from "./_read_tensor.ts";
import { coerced } from "./convert_old.ts";

/** 0, 1, 2, ... along an axis. */
function places(b: Builder, count: number, { axis, rank, dtype = "int64" }: {
  readonly axis: number;
  readonly rank: number;
  readonly dtype?: DType;
}): Value {
  const shape = Array.from({ length: rank }, (_, i) => i === axis ? count : 1);
  return b.table(Float64Array.from({ length: count }, (_, i) => i), { dtype, shape });
}

/** One of two values at each place of a new axis: the second where an index names it. */
const oneHot: Conversion = (b, node) => {
  const [indices, values] = [given(node, 0), given(node, 2)];
  const depth = Number(constantOf(node.inputs[1])?.data[0] ?? NaN);
  if (!(depth >= 1 && depth < 2 ** 31)) throw new ImportError("Depth must be a constant");
  const rank = indices.shape.length + 1;
  const axis = normalizeAxis(intOf(node.attributes, "axis", -1), rank);
  const at = b.unsqueeze(b.cast(indices, "int64"), [axis]);
  const wrapped = b.where(b.less(at, 0), b.add(at, depth), at);
  const value = (i: number) => b.reshape(b.slice(values, { axis: 0, start: i, end: i + 1 }), []);
  return b.where(b.equal(wrapped, places(b, depth, { axis, rank })), value(1), value(0));
};

/** 1 at the first of the largest entries along an axis, 0 elsewhere. */
function hardmax(b: Builder, x: Value, axis: number): Value {
  const rank = x.shape.length;
  const largest = b.call("ArgMax", [x], { axis: int(axis), keepdims: int(1) });
  const isLargest = b.equal(places(b, dim(x.shape, axis), { axis, rank }), largest);
  return b.cast(isLargest, x.dtype);
}

/** Entries along an axis (or of all) whose condition, which must be known, holds. */
const compress: Conversion = (b, node) => {
  const x = given(node, 0);
  const condition = constantOf(node.inputs[1]);
  if (condition === undefined) {
    throw new ImportError(
      "Compress chooses by values that are only known in a run, so that its size is: not supported",
    );
  }
  const chosen = Array.from(condition.data, Number).flatMap((v, i) => v === 0 ? [] : [i]);
  if (node.attributes["axis"] === undefined) {
    return b.gather(b.reshape(x, [sizeOf(x.shape)]), b.ints(chosen));
  }
  const axis = normalizeAxis(intOf(node.attributes, "axis", 0), x.shape.length);
  return b.gather(x, b.ints(chosen), axis);
};

/** 1 on a diagonal. */
const eyeLike: Conversion = (b, node) => {
  const x = given(node, 0);
  const [rows, columns, k] = [dim(x.shape, 0), dim(x.shape, 1), intOf(node.attributes, "k", 0)];
  const dtype = node.attributes["dtype"] === undefined
    ? x.dtype
    : dtypeOf(intOf(node.attributes, "dtype", 1), "The result");
  const values = Float64Array.from(
    { length: rows * columns },
    (_, i) => i % columns - Math.floor(i / columns) === k ? 1 : 0,
  );
  return b.table(values, { dtype, shape: [rows, columns] });
};

/** Indices that take entries along an axis, expanded to all of x. */
function gatherAlong(b: Builder, x: Value, indices: Value, axis: number): Value {
  return b.call("GatherElements", [x, b.expand(indices, x.shape)], { axis: int(axis) });
}

/** The first entries of each sequence in reverse order, as many as it is long. */
const reverseSequence: Conversion = (b, node) => {
  const [x, lengths] = [given(node, 0), given(node, 1)];
  const rank = x.shape.length;
  const time = normalizeAxis(intOf(node.attributes, "time_axis", 0), rank);
  const batch = normalizeAxis(intOf(node.attributes, "batch_axis", 1), rank);
  const at = places(b, dim(x.shape, time), { axis: time, rank });
  const ends = b.reshape(
    b.cast(lengths, "int64"),
    x.shape.map((d, i) => i === batch ? d : 1),
  );
  return gatherAlong(b, x, b.where(b.less(at, ends), b.sub(b.sub(ends, 1), at), at), time);
};

/** Rows of a cache replaced from a place on, one for each picture. */
const tensorScatter: Conversion = (b, node) => {
  const [cache, update, first] = [given(node, 0), given(node, 1), node.inputs[2]];
  const rank = cache.shape.length;
  const axis = normalizeAxis(intOf(node.attributes, "axis", -2), rank);
  const isCircular = node.attributes["mode"]?.value === "circular";
  const size = dim(cache.shape, axis);
  const along = places(b, dim(update.shape, axis), { axis, rank });
  const start = first === undefined
    ? b.ints([0])
    : b.reshape(b.cast(first, "int64"), cache.shape.map((d, i) => i === 0 ? d : 1));
  const at = b.add(start, along);
  const wrapped = isCircular ? b.call("Mod", [at, b.scalar(size, "int64")]) : at;
  return b.call("ScatterElements", [cache, b.expand(wrapped, update.shape), update], {
    axis: int(axis),
  });
};

/** The middle of x, or x in the middle of zeros, along some axes. */
const centerCropPad: Conversion = (b, node) => {
  const x = given(node, 0);
  const rank = x.shape.length;
  const wanted = constantInts(node.inputs[1], "Shape") ?? [];
  const axes = intsOf(node.attributes, "axes") ?? x.shape.map((_, i) => i);
  return axes.reduce((v, a, i) => {
    const axis = normalizeAxis(a, rank);
    const [size, target] = [dim(v.shape, axis), dim(wanted, i)];
    if (target < size) {
      const start = Math.floor((size - target) / 2);
      return b.slice(v, { axis, start, end: start + target });
    }
    const before = Math.floor((target - size) / 2);
    const only = (n: number) => x.shape.map((_, k) => k === axis ? n : 0);
    return b.pad(v, { pads: [...only(before), ...only(target - size - before)] });
  }, x);
};

/** A hardmax over one axis, or over all from one on in opsets before 13. */
const hardmaxOf: Conversion = (b, node) => {
  const x = given(node, 0);
  if (node.version < 13) return b.reshape(hardmax(b, coerced(b, node), 1), x.shape);
  return hardmax(b, x, normalizeAxis(intOf(node.attributes, "axis", -1), x.shape.length));
};

/** Operators that choose and place entries. */
export const INDEX: Conversions = {
  CenterCropPad: centerCropPad,
  Compress: compress,
  EyeLike: eyeLike,
  Hardmax: hardmaxOf,
  OneHot: oneHot,
  ReverseSequence: reverseSequence,
  TensorScatter: tensorScatter,
};
