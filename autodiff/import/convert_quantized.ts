import { type Attributes, int, intOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { attributesOf, dim, normalizeAxis } from "../infer/mod.ts";
import { type DType, isFloat, type Shape } from "../tensor.ts";
import { without } from "./_keep.ts";
import { type Conversion, type Conversions, type ForeignNode, given } from "./_node.ts";

/**
 * Whole numbers that something real was rounded to are kept as floats, which hold them exactly, so that gradients pass:
 * rounding passes them straight through, and none go to what is beyond the range.
 */
const RANGES: Partial<Record<DType, readonly [number, number]>> = {
  int8: [-128, 127],
  uint8: [0, 255],
  // int16 and uint16 are read as int32: what is beyond theirs saturates nowhere in practice.
  int32: [-(2 ** 31), 2 ** 31 - 1],
};

/** A scale or zero point shaped to go with x: one number, one for each entry of an axis, or one for each block of it. */
function shaped(
  b: Builder,
  v: Value,
  { x, attributes }: { readonly x: Value; readonly attributes: Attributes },
): Value {
  if (v.shape.length === 0 || v.shape.join() === "1") return b.reshape(v, []);
  const axis = normalizeAxis(intOf(attributes, "axis", 1), x.shape.length);
  const block = intOf(attributes, "block_size", 0);
  if (v.shape.length === 1 && block === 0) {
    return b.reshape(v, x.shape.map((_, i) => i === axis ? dim(v.shape, 0) : 1));
  }
  const wide = [...v.shape.slice(0, axis + 1), 1, ...v.shape.slice(axis + 1)];
  const spread = wide.map((d, i) => i === axis + 1 ? block : d);
  const joined = v.shape.map((d, i) => i === axis ? d * block : d);
  const all = b.reshape(b.expand(b.reshape(v, wide), spread), joined);
  return dim(joined, axis) === dim(x.shape, axis)
    ? all
    : b.slice(all, { axis, start: 0, end: dim(x.shape, axis) });
}

/** What is quantized, and how. */
interface Quantity {
  readonly x: Value;
  readonly scale: Value;
  readonly zero: Value | undefined;
  readonly attributes: Attributes;
}

/** (x - zero) · scale. */
function dequantized(b: Builder, { x, scale, zero, attributes }: Quantity): Value {
  const dtype = isFloat(scale.dtype) ? scale.dtype : "float32";
  const at = { x, attributes };
  const whole = b.cast(x, dtype);
  const apart = zero === undefined ? whole : b.sub(whole, b.cast(shaped(b, zero, at), dtype));
  return b.mul(apart, shaped(b, scale, at));
}

/** round(x / scale) + zero within the range of the zero point's dtype, as a float. */
function quantized(
  b: Builder,
  { x, scale, zero, attributes }: Quantity,
  range: readonly [number, number],
): Value {
  const at = { x, attributes };
  const scaled = b.div(x, b.cast(shaped(b, scale, at), x.dtype));
  const rounded = b.straightThrough(scaled, b.round(scaled));
  const moved = zero === undefined ? rounded : b.add(rounded, b.cast(shaped(b, zero, at), x.dtype));
  return b.min(b.max(moved, range[0]), range[1]);
}

function rangeOf(zero: Value | undefined): readonly [number, number] {
  const range = RANGES[zero?.dtype ?? "uint8"];
  // A zero point that was itself computed is a float: ONNX computes none but uint8's.
  return range ?? [0, 255];
}

const quantize: Conversion = (b, node) => {
  const zero = node.inputs[2];
  const isSigned = zero === undefined && [3, 5].includes(intOf(node.attributes, "output_dtype", 0));
  return quantized(b, {
    x: given(node, 0),
    scale: given(node, 1),
    zero,
    attributes: node.attributes,
  }, isSigned ? [-128, 127] : rangeOf(zero));
};

/** uint8 by the range of x itself, which the scale and zero point that it gives follow without a gradient. */
const dynamic: Conversion = (b, node) => {
  const x = given(node, 0);
  const fixed = b.stopGradient(x);
  const [low, high] = [b.minOf(fixed, { keepDims: false }), b.maxOf(fixed, { keepDims: false })];
  const [least, most] = [b.min(low, 0), b.max(high, 0)];
  const range = b.sub(most, least);
  const scale = b.where(b.greater(range, 0), b.div(range, 255), b.scalar(1, x.dtype));
  const zero = b.round(b.min(b.max(b.div(b.neg(least), scale), 0), 255));
  return [quantized(b, { x, scale, zero, attributes: {} }, [0, 255]), scale, zero];
};

const less = (b: Builder, x: Value, zero: Value | undefined, shape: (v: Value) => Value): Value => {
  const whole = isFloat(x.dtype) ? x : b.cast(x, "float32");
  return zero === undefined ? whole : b.sub(whole, b.cast(shape(zero), whole.dtype));
};

const scalar = (b: Builder) => (v: Value): Value => v.shape.join() === "1" ? b.reshape(v, []) : v;

/** A product of whole numbers, kept as floats. */
const matMulInteger: Conversion = (b, node) => {
  const [x, y, zeroX, zeroY] = node.inputs;
  if (x === undefined || y === undefined) throw new ImportError("Input 0 or 1 is missing");
  const rows = (v: Value) =>
    v.shape.length === 1 && dim(v.shape, 0) > 1 ? b.reshape(v, [dim(v.shape, 0), 1]) : scalar(b)(v);
  return b.matMul(less(b, x, zeroX, rows), less(b, y, zeroY, scalar(b)));
};

/** One number, or one for each entry of the first axis of a tensor of that rank. */
function perChannel(b: Builder, v: Value, rank: number): Value {
  if (v.shape.length !== 1 || dim(v.shape, 0) === 1) return scalar(b)(v);
  const shape: Shape = Array.from({ length: rank }, (_, i) => i === 0 ? dim(v.shape, 0) : 1);
  return b.reshape(v, shape);
}

const convInteger: Conversion = (b, node) => {
  const [x, w, zeroX, zeroW] = node.inputs;
  if (x === undefined || w === undefined) throw new ImportError("Input 0 or 1 is missing");
  const kernel = less(b, w, zeroW, (v) => perChannel(b, v, w.shape.length));
  return b.call("Conv", [less(b, x, zeroX, scalar(b)), kernel], node.attributes);
};

/** Input `i` and the scale and zero point behind it. */
function read(b: Builder, node: ForeignNode, i: number): Value {
  return dequantized(b, {
    x: given(node, i),
    scale: given(node, i + 1),
    zero: node.inputs[i + 2],
    attributes: {},
  });
}

/** A result as the whole numbers that the scale and zero point at `i` make of it. */
function written(b: Builder, node: ForeignNode, y: Value, i: number): Value {
  const zero = node.inputs[i + 1];
  return quantized(b, { x: y, scale: given(node, i), zero, attributes: {} }, rangeOf(zero));
}

const qLinearConv: Conversion = (b, node) => {
  const x = read(b, node, 0);
  const w = given(node, 3);
  const [scale, zero] = [given(node, 4), node.inputs[5]];
  const kernel = b.mul(
    less(b, w, zero, (v) => perChannel(b, v, w.shape.length)),
    perChannel(b, scale, w.shape.length),
  );
  const bias = node.inputs[8];
  // The bias is in units of both scales.
  const unit = b.mul(scalar(b)(given(node, 1)), scalar(b)(scale));
  const added = bias && b.mul(b.cast(bias, "float32"), unit);
  const y = b.call("Conv", added === undefined ? [x, kernel] : [x, kernel, added], node.attributes);
  return written(b, node, y, 6);
};

const qLinearMatMul: Conversion = (b, node) =>
  written(b, node, b.matMul(read(b, node, 0), read(b, node, 3)), 6);

/** A product of matrices and a bias in units of both scales; without a scale of its own the result is real. */
const qGemm: Conversion = (b, node) => {
  const own = ["transA", "transB", "alpha"];
  const { transB, alpha } = attributesOf("Gemm", node.attributes);
  const scale = given(node, 4);
  const w = dequantized(b, {
    x: given(node, 3),
    scale,
    zero: node.inputs[5],
    attributes: { axis: int(transB ? 0 : 1) },
  });
  const attributes = Object.fromEntries(
    Object.entries(node.attributes).filter(([name]) => own.includes(name)),
  );
  const product = b.call("Gemm", [read(b, node, 0), w], attributes);
  const bias = node.inputs[6];
  const unit = b.mul(b.mul(scalar(b)(given(node, 1)), scalar(b)(scale)), alpha);
  const y = bias === undefined ? product : b.add(product, b.mul(b.cast(bias, "float32"), unit));
  return node.inputs[7] === undefined ? y : written(b, node, y, 7);
};

/** Means over windows, also of pictures whose channels are last. */
const averagePool = (b: Builder, x: Value, node: ForeignNode): Value => {
  const attributes = without(node.attributes, "channels_last");
  if (intOf(node.attributes, "channels_last", 0) === 0) {
    return b.call("AveragePool", [x], attributes);
  }
  const last = x.shape.length - 1;
  const spatial = x.shape.slice(2).map((_, i) => i + 1);
  const first = b.transpose(x, [0, last, ...spatial]);
  const y = b.call("AveragePool", [first], attributes);
  return b.transpose(y, [0, ...x.shape.slice(2).map((_, i) => i + 2), 1]);
};

/** Softmax over one axis; operator sets before 13 mean all from it on. */
const softmax = (b: Builder, x: Value, { attributes }: ForeignNode): Value => {
  const axis = normalizeAxis(intOf(attributes, "axis", -1), x.shape.length);
  if (intOf(attributes, "opset", 13) < 13 && axis !== x.shape.length - 1) {
    throw new ImportError(`Attribute axis is ${axis}, expected the last one before opset 13`);
  }
  return b.softmax(x, axis);
};

/** An operator of ONNX Runtime on two quantized operands. */
const pair = (apply: (b: Builder, x: Value, y: Value) => Value): Conversion => (b, node) =>
  written(b, node, apply(b, read(b, node, 0), read(b, node, 3)), 6);

/** An operator of ONNX Runtime on one quantized operand. */
const single =
  (apply: (b: Builder, x: Value, node: ForeignNode) => Value): Conversion => (b, node) =>
    written(b, node, apply(b, read(b, node, 0), node), 3);

const globalMean = (b: Builder, x: Value, node: ForeignNode): Value => {
  const isLast = intOf(node.attributes, "channels_last", 0) === 1;
  const axes = x.shape.flatMap((_, i) =>
    i === 0 || i === (isLast ? x.shape.length - 1 : 1) ? [] : [i]
  );
  return b.mean(x, { axes });
};

/** Parts, each with a scale and zero point, behind those of the result. */
const qLinearConcat: Conversion = (b, node) => {
  const count = (node.inputs.length - 2) / 3;
  const parts = Array.from({ length: count }, (_, i) => read(b, node, 2 + 3 * i));
  const axis = normalizeAxis(intOf(node.attributes, "axis", 0), parts[0]?.shape.length ?? 1);
  return written(b, node, b.concat(parts, axis), 0);
};

/** Operators on whole numbers that stand for real ones. */
export const QUANTIZED: Conversions = {
  ConvInteger: convInteger,
  DequantizeLinear: (b, node) =>
    dequantized(b, {
      x: given(node, 0),
      scale: given(node, 1),
      zero: node.inputs[2],
      attributes: node.attributes,
    }),
  DynamicQuantizeLinear: dynamic,
  MatMulInteger: matMulInteger,
  QLinearConv: qLinearConv,
  QLinearMatMul: qLinearMatMul,
  QuantizeLinear: quantize,
  "com.microsoft.DequantizeLinear": (b, node) =>
    dequantized(b, {
      x: given(node, 0),
      scale: given(node, 1),
      zero: node.inputs[2],
      attributes: node.attributes,
    }),
  "com.microsoft.DynamicQuantizeMatMul": (b, node) => {
    const [, , , , bias] = node.inputs;
    const w = dequantized(b, {
      x: given(node, 1),
      scale: given(node, 2),
      zero: node.inputs[3],
      attributes: { ...node.attributes },
    });
    const made = dynamic(b, { ...node, inputs: [given(node, 0)] });
    if ("op" in made || "source" in made) throw new RangeError("No scale");
    const [q, scale, zero] = made;
    if (q === undefined || scale === undefined) throw new RangeError("No scale");
    const y = b.matMul(dequantized(b, { x: q, scale, zero, attributes: {} }), w);
    return bias === undefined ? y : b.add(y, bias);
  },
  "com.microsoft.MatMulIntegerToFloat": (b, node) => {
    const [x, w, scaleX, scaleW, zeroX, zeroW, bias] = node.inputs;
    const product = matMulInteger(b, { ...node, inputs: [x, w, zeroX, zeroW] });
    if (!("source" in product) || scaleX === undefined || scaleW === undefined) {
      throw new ImportError("A scale is missing");
    }
    const y = b.mul(b.mul(product, scaleX), scaleW);
    return bias === undefined ? y : b.add(y, bias);
  },
  "com.microsoft.QGemm": qGemm,
  "com.microsoft.QLinearAdd": pair((b, x, y) => b.add(x, y)),
  "com.microsoft.QLinearAveragePool": single(averagePool),
  "com.microsoft.QLinearConcat": qLinearConcat,
  "com.microsoft.QLinearGlobalAveragePool": single(globalMean),
  "com.microsoft.QLinearLeakyRelu": single((b, x, { attributes }) =>
    b.call("LeakyRelu", [x], attributes)
  ),
  "com.microsoft.QLinearMul": pair((b, x, y) => b.mul(x, y)),
  "com.microsoft.QLinearSigmoid": single((b, x) => b.sigmoid(x)),
  "com.microsoft.QLinearSoftmax": single(softmax),
  "com.microsoft.QLinearWhere": (b, node) =>
    written(b, node, b.where(given(node, 0), read(b, node, 1), read(b, node, 4)), 7),
  "com.microsoft.QuantizeLinear": quantize,
};
