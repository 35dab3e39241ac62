import { TensorProto_DataType as Onnx } from "onnx-buf";
import { floatOf, int, intOf, intsOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { attributesOf, dim, normalizeAxis } from "../infer/mod.ts";
import { onnxOfDType } from "../onnx_dtype.ts";
import { type DType, sizeOf } from "../tensor.ts";
import { keep, without } from "./_keep.ts";
import { type Call, type Conversion, type Conversions, given, names } from "./_node.ts";
import { dtypeOf } from "./_read_tensor.ts";

/** Axes that older opsets have as an attribute. */
export const axesInput: Conversion = (b, node) => {
  const axes = intsOf(node.attributes, "axes");
  const call = keep({ ...node, attributes: without(node.attributes, "axes") });
  return axes === undefined ? call : { ...call, inputs: [node.inputs[0], b.ints(axes)] };
};

/** An equal split, or one by an attribute, as a split by sizes. */
const split: Conversion = (b, node) => {
  const { inputs: [x, sizes], attributes, outputs } = node;
  const { axis } = attributesOf("Split", attributes);
  const total = dim(x?.shape ?? [], normalizeAxis(axis, x?.shape.length ?? 0));
  const count = intOf(attributes, "num_outputs", outputs.length);
  const part = Math.ceil(total / count);
  const equal = Array.from({ length: count }, (_, i) => Math.min(part, total - part * i));
  return {
    op: "Split",
    inputs: [x, sizes ?? b.ints(intsOf(attributes, "split") ?? equal)],
    attributes: { axis: int(axis) },
  };
};

/**
 * Before opset 13 what is over one axis today is over all axes from `axis` on, which is 1 where it is not given: x as a
 * matrix of that.
 */
export function coerced(b: Builder, node: Parameters<Conversion>[1]): Value {
  const x = given(node, 0);
  const axis = normalizeAxis(intOf(node.attributes, "axis", 1), x.shape.length);
  return b.reshape(x, [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis))]);
}

const softmax: Conversion = (b, node) => {
  const call = keep(node);
  const x = given(node, 0);
  if (node.version >= 13) return call;
  const axis = normalizeAxis(intOf(node.attributes, "axis", 1), x.shape.length);
  if (axis === x.shape.length - 1) return { ...call, attributes: { axis: int(-1) } };
  return b.reshape(b.call(call.op, [coerced(b, node)], { axis: int(-1) }), x.shape);
};

/** Ranges that opsets before 10 have as attributes. */
const slice: Conversion = (b, node) => {
  const call = keep({ ...node, attributes: without(node.attributes, "starts", "ends", "axes") });
  const [starts, ends, axes] = ["starts", "ends", "axes"].map((name) =>
    intsOf(node.attributes, name)
  );
  if (starts === undefined || ends === undefined) return call;
  const bound = (list: readonly number[]) => list.map((v) => Math.max(-1e15, Math.min(v, 1e15)));
  return {
    ...call,
    inputs: [node.inputs[0], b.ints(bound(starts)), b.ints(bound(ends)), axes && b.ints(axes)],
  };
};

/** Padding and its value, which opsets before 11 have as attributes. */
const pad: Conversion = (b, node) => {
  const x = given(node, 0);
  const pads = intsOf(node.attributes, "pads");
  const call = keep({ ...node, attributes: without(node.attributes, "pads", "value") });
  if (pads === undefined) return call;
  const value = b.scalar(floatOf(node.attributes, "value", 0), x.dtype);
  return { ...call, inputs: [x, b.ints(pads), value] };
};

/** Bounds that opsets before 11 have as attributes. */
const clip: Conversion = (b, node) => {
  const x = given(node, 0);
  const [, low, high] = node.inputs;
  const bound = (name: "min" | "max", value: Value | undefined) => {
    if (value !== undefined) return b.cast(b.reshape(value, []), x.dtype);
    if (node.attributes[name] === undefined) return undefined;
    return b.scalar(floatOf(node.attributes, name, 0), x.dtype);
  };
  return {
    ...keep({ ...node, attributes: without(node.attributes, "min", "max") }),
    inputs: [x, bound("min", low), bound("max", high)],
  };
};

/** How many, which opsets before 10 have as an attribute. */
const topK: Conversion = (b, node) => {
  const call = keep({ ...node, attributes: without(node.attributes, "k") });
  if (node.attributes["k"] === undefined) return call;
  return { ...call, inputs: [node.inputs[0], b.ints([intOf(node.attributes, "k", 1)])] };
};

/** In inference the identity; drawing at random is refused. */
const dropout: Conversion = (b, node) => {
  const x = given(node, 0);
  const [, ratio, training] = node.inputs;
  const isOn = training !== undefined && constantOf(training)?.data[0] !== 0;
  if (isOn && Number(constantOf(ratio)?.data[0] ?? 0.5) !== 0) {
    throw new ImportError(
      "Dropout is in training mode and draws at random: export the model in evaluation mode",
    );
  }
  return names(node, 1)
    ? [x, b.expand(b.scalar(1, node.version < 10 ? x.dtype : "bool"), x.shape)]
    : b.identity(x);
};

/** Before opset 21 scale and bias are per group. */
const groupNorm: Conversion = (b, node) => {
  const call = keep(node);
  const [x, ...perGroup] = node.inputs;
  if (node.version >= 21 || x === undefined) return call;
  const channels = dim(x.shape, 1);
  const { num_groups: groups } = attributesOf("GroupNormalization", node.attributes);
  const perChannel = perGroup.map((v) =>
    v && b.reshape(b.expand(b.reshape(v, [groups, 1]), [groups, channels / groups]), [channels])
  );
  return { ...call, inputs: [x, ...perChannel] };
};

const castTo = (x: Value, dtype: DType): Call => ({
  op: "Cast",
  inputs: [x],
  attributes: { to: int(onnxOfDType(dtype)) },
});

/**
 * Whole numbers of a width that graphs lack become the next wider ones. */
const cast: Conversion = (b, node) => {
  const { to } = attributesOf("Cast", node.attributes);
  const dtype = dtypeOf(to, "The result");
  const wraps = WRAPS.get(to);
  if (wraps === undefined) return castTo(given(node, 0), dtype);
  return b.call("Mod", [b.cast(given(node, 0), dtype), b.scalar(wraps, dtype)]);
};

/** Unsigned numbers that are read as wider ones, and where they begin anew. */
const WRAPS = new Map<number, number>([[Onnx.UINT16, 2 ** 16], [Onnx.UINT32, 2 ** 32]]);

/** Forms that operators had in older opsets, and names that they no longer have. */
export const OLD_FORMS: Conversions = {
  Cast: cast,
  CastLike: (_b, node) => castTo(given(node, 0), given(node, 1).dtype),
  Clip: clip,
  Dropout: dropout,
  GroupNormalization: groupNorm,
  LogSoftmax: softmax,
  Pad: pad,
  Scatter: (_b, node) => keep({ ...node, op: "ScatterElements" }),
  Slice: slice,
  Softmax: softmax,
  Split: split,
  Squeeze: axesInput,
  TopK: topK,
  Unsqueeze: axesInput,
};
