import {
  type Attributes,
  type Builder,
  float,
  int,
  int64,
  type OpName,
  string,
  type Value,
} from "../../../autodiff/mod.ts";
import { type OpCase, opCase, type Spec } from "./_case.ts";
import { atanSeries, bend, erfSeries, softplus } from "./_twins.ts";

type Twin = (b: Builder, x: Value) => Value;

/** One input of [2, 3], or as given. */
function unary(
  op: OpName,
  options: { attributes?: Attributes; x?: Spec; twin?: Twin } = {},
): OpCase {
  const { attributes, x = [2, 3], twin } = options;
  return opCase(
    { x },
    (b, { x }) => b.call(op, [x], attributes),
    twin && { twin: (b, { x }) => twin(b, x) },
  );
}

const wide = { shape: [3, 4], low: -4, high: 4, off: [0] };
const inUnit = { shape: [2, 3], low: -0.8, high: 0.8 };
/** √(1 - x²). */
const leg = (b: Builder, x: Value): Value => b.sqrt(b.sub(1, b.mul(x, x)));
const positive = { shape: [2, 3], low: 0.5, high: 2 };

/** An operator of two inputs, broadcast every way. `y` is where its second operand may lie. */
function pairs(op: OpName, { x = {}, y = {}, attributes = {} }: {
  x?: { low?: number; high?: number };
  y?: { low?: number; high?: number };
  attributes?: Attributes;
} = {}) {
  const pair = (left: readonly number[], right: readonly number[]) =>
    opCase(
      { x: { ...x, shape: left }, y: { ...y, shape: right } },
      (b, { x, y }) => b.call(op, [x, y], attributes),
    );
  return {
    "one shape": pair([2, 3], [2, 3]),
    "x is broadcast": pair([3], [2, 2, 3]),
    "y is broadcast": pair([2, 3, 2], [3, 1]),
    "both are broadcast": pair([2, 1, 3], [4, 1]),
    "scalar x": pair([], [2, 3]),
    "scalar y": pair([2, 3], []),
    "scalars": pair([], []),
    "size 1 of higher rank": pair([2], [1, 1, 1]),
  };
}

/** Operands whose order no step changes. */
const ordered = (shape: readonly number[]): Spec => ({ shape, spacing: 0.5 });

const bools = (shape: readonly number[], entries: readonly number[]): Spec => ({
  dtype: "bool",
  shape,
  data: Uint8Array.from(entries),
});

const exponents: Spec = int64([-1, 0, 1, 3]);

/** Cases of element-wise operators. */
export const ELEMENTWISE_CASES = {
  Identity: { "": unary("Identity") },
  Dropout: {
    "": unary("Dropout"),
    "with ratio, training off": opCase({ x: [2, 3] }, (b, { x }) =>
      b.call("Dropout", [
        x,
        b.scalar(0.5, "float32"),
        b.constant({ dtype: "bool", shape: [], data: new Uint8Array([0]) }),
      ])),
  },
  StraightThrough: {
    "of a rounding that is added back": opCase(
      { x: [2, 3] },
      // The value is x itself, so that differences see the same slope as the rule.
      (b, { x }) => b.straightThrough(x, b.add(x, b.mul(b.round(x), 0))),
    ),
  },
  Cast: {
    "to float64 and back": opCase(
      { x: [2, 3] },
      (b, { x }) => b.cast(b.mul(b.cast(x, "float64"), 3), x.dtype),
    ),
  },
  Neg: { "": unary("Neg") },
  Abs: { "": unary("Abs", { x: wide }) },
  Exp: { "": unary("Exp") },
  Log: { "": unary("Log", { x: positive }) },
  Sqrt: { "": unary("Sqrt", { x: positive }) },
  Reciprocal: { "": unary("Reciprocal", { x: positive }) },
  Sin: { "": unary("Sin", { x: wide }) },
  Cos: { "": unary("Cos", { x: wide }) },
  Tan: { "": unary("Tan", { twin: (b, x) => b.div(b.sin(x), b.cos(x)) }) },
  Asin: { "": unary("Asin", { x: inUnit, twin: (b, x) => atanSeries(b, b.div(x, leg(b, x))) }) },
  Acos: {
    "": unary("Acos", {
      x: inUnit,
      twin: (b, x) => b.sub(Math.PI / 2, atanSeries(b, b.div(x, leg(b, x)))),
    }),
  },
  Atan: { "": unary("Atan", { x: { shape: [2, 3], low: -3, high: 3 }, twin: atanSeries }) },
  Sinh: { "": unary("Sinh", { twin: (b, x) => b.mul(b.sub(b.exp(x), b.exp(b.neg(x))), 0.5) }) },
  Cosh: { "": unary("Cosh", { twin: (b, x) => b.mul(b.add(b.exp(x), b.exp(b.neg(x))), 0.5) }) },
  Asinh: {
    "": unary("Asinh", { twin: (b, x) => b.log(b.add(x, b.sqrt(b.add(b.mul(x, x), 1)))) }),
  },
  Acosh: {
    "": unary("Acosh", {
      x: { shape: [2, 3], low: 1.5, high: 4 },
      twin: (b, x) => b.log(b.add(x, b.sqrt(b.sub(b.mul(x, x), 1)))),
    }),
  },
  Atanh: {
    "": unary("Atanh", {
      x: inUnit,
      twin: (b, x) => b.mul(b.log(b.div(b.add(x, 1), b.sub(1, x))), 0.5),
    }),
  },
  Tanh: { "": unary("Tanh") },
  Sigmoid: { "": unary("Sigmoid", { x: wide }) },
  Erf: { "": unary("Erf", { x: { shape: [3, 4], low: -1.8, high: 1.8 }, twin: erfSeries }) },
  Gelu: {
    "exact": unary("Gelu", {
      x: { shape: [3, 4], low: -2.4, high: 2.4 },
      twin: (b, x) => b.mul(b.mul(x, 0.5), b.add(erfSeries(b, b.mul(x, Math.SQRT1_2)), 1)),
    }),
    "tanh": unary("Gelu", {
      x: { shape: [3, 4], low: -3, high: 3 },
      attributes: { approximate: string("tanh") },
    }),
  },
  QuickGelu: {
    "of CLIP": opCase({ x: wide }, (b, { x }) => b.quickGelu(x)),
    "SiLU": opCase({ x: wide }, (b, { x }) => b.silu(x)),
    "default": unary("QuickGelu"),
  },
  Relu: { "": unary("Relu", { x: wide }) },
  LeakyRelu: {
    "default": unary("LeakyRelu", {
      x: wide,
      twin: (b, x) => bend(b, x, 0, x, b.mul(x, Math.fround(0.01))),
    }),
    "alpha": unary("LeakyRelu", {
      x: wide,
      attributes: { alpha: float(0.3) },
      twin: (b, x) => bend(b, x, 0, x, b.mul(x, Math.fround(0.3))),
    }),
  },
  ThresholdedRelu: {
    "default": unary("ThresholdedRelu", {
      x: { ...wide, off: [1] },
      twin: (b, x) => bend(b, x, 1, x, b.mul(x, 0)),
    }),
    "alpha": unary("ThresholdedRelu", {
      x: { ...wide, off: [0.5] },
      attributes: { alpha: float(0.5) },
      twin: (b, x) => bend(b, x, 0.5, x, b.mul(x, 0)),
    }),
  },
  Elu: {
    "default": unary("Elu", { x: wide, twin: (b, x) => bend(b, x, 0, x, b.sub(b.exp(x), 1)) }),
    "alpha": unary("Elu", {
      x: wide,
      attributes: { alpha: float(2) },
      twin: (b, x) => bend(b, x, 0, x, b.mul(b.sub(b.exp(x), 1), 2)),
    }),
  },
  Celu: {
    "default": unary("Celu", { x: wide, twin: (b, x) => bend(b, x, 0, x, b.sub(b.exp(x), 1)) }),
    "alpha": unary("Celu", {
      x: wide,
      attributes: { alpha: float(2) },
      twin: (b, x) => bend(b, x, 0, x, b.mul(b.sub(b.exp(b.div(x, 2)), 1), 2)),
    }),
  },
  Selu: {
    "default": unary("Selu", {
      x: wide,
      twin: (b, x) =>
        b.mul(
          bend(b, x, 0, x, b.mul(b.sub(b.exp(x), 1), Math.fround(1.6732632423543772))),
          Math.fround(1.0507009873554805),
        ),
    }),
    "alpha and gamma": unary("Selu", {
      x: wide,
      attributes: { alpha: float(0.5), gamma: float(3) },
      twin: (b, x) => b.mul(bend(b, x, 0, x, b.mul(b.sub(b.exp(x), 1), 0.5)), 3),
    }),
  },
  HardSigmoid: {
    "default": unary("HardSigmoid", {
      x: { ...wide, off: [-2.5, 2.5] },
      twin: (b, x) => b.max(b.min(b.add(b.mul(x, Math.fround(0.2)), 0.5), 1), 0),
    }),
    "alpha and beta": unary("HardSigmoid", {
      x: { ...wide, off: [-1.2, 0.8] },
      attributes: { alpha: float(0.5), beta: float(0.6) },
      twin: (b, x) => b.max(b.min(b.add(b.mul(x, 0.5), Math.fround(0.6)), 1), 0),
    }),
  },
  HardSwish: {
    "": unary("HardSwish", {
      x: { ...wide, off: [-3, 3] },
      twin: (b, x) => b.mul(x, b.max(b.min(b.add(b.div(x, 6), 0.5), 1), 0)),
    }),
  },
  Softplus: { "": unary("Softplus", { x: wide, twin: softplus }) },
  Softsign: {
    "": unary("Softsign", { x: wide, twin: (b, x) => b.div(x, b.add(b.abs(x), 1)) }),
  },
  Mish: {
    "": unary("Mish", { x: wide, twin: (b, x) => b.mul(x, b.tanh(softplus(b, x))) }),
  },
  PRelu: {
    "slope per channel": opCase(
      { x: { ...wide, shape: [2, 3, 4] }, slope: [3, 1] },
      (b, { x, slope }) => b.call("PRelu", [x, slope]),
      { twin: (b, { x, slope }) => bend(b, x, 0, x, b.mul(x, slope)) },
    ),
    "one slope": opCase(
      { x: wide, slope: [1] },
      (b, { x, slope }) => b.call("PRelu", [x, slope]),
      { twin: (b, { x, slope }) => bend(b, x, 0, x, b.mul(x, slope)) },
    ),
  },
  Clip: {
    "both bounds": opCase(
      { x: { ...wide, off: [-1, 2] } },
      (b, { x }) => b.call("Clip", [x, b.scalar(-1, x.dtype), b.scalar(2, x.dtype)]),
    ),
    "low alone": opCase(
      { x: wide },
      (b, { x }) => b.call("Clip", [x, b.scalar(0, x.dtype)]),
    ),
    "high alone": opCase(
      { x: wide },
      (b, { x }) => b.call("Clip", [x, undefined, b.scalar(0, x.dtype)]),
    ),
    "neither": unary("Clip"),
    "bounds as inputs": opCase(
      {
        x: { shape: [3, 4], low: -4, high: 4, off: [-1, 1] },
        low: { shape: [], low: -1, high: -0.99 },
        high: { shape: [], low: 0.99, high: 1 },
      },
      (b, { x, low, high }) => b.call("Clip", [x, low, high]),
    ),
  },
  Add: pairs("Add"),
  Sub: pairs("Sub"),
  Mul: pairs("Mul"),
  Div: pairs("Div", { y: { low: 0.5, high: 2 } }),
  Mod: {
    "fmod": opCase(
      {
        x: { shape: [2, 3], low: 2.1, high: 2.9 },
        y: { shape: [3], low: 0.95, high: 1.0 },
      },
      (b, { x, y }) => b.call("Mod", [x, y], { fmod: int(1) }),
    ),
    "of a negative": opCase(
      {
        x: { shape: [2, 1], low: -2.8, high: -2.2 },
        y: { shape: [3], low: 0.98, high: 1.0 },
      },
      (b, { x, y }) => b.call("Mod", [x, y], { fmod: int(1) }),
    ),
  },
  Pow: {
    ...pairs("Pow", { x: { low: 0.5, high: 2 }, y: { low: -2, high: 3 } }),
    "square": opCase({ x: wide }, (b, { x }) => b.pow(x, 2)),
    "cube": opCase({ x: wide }, (b, { x }) => b.pow(x, 3)),
    "whole exponents": opCase({ x: wide, p: exponents }, (b, { x, p }) => b.pow(x, p)),
  },
  Min: {
    "two": opCase({ x: ordered([2, 3]), y: [2, 3] }, (b, { x, y }) => b.min(x, b.mul(y, 1e-2))),
    "three, broadcast": opCase(
      { x: ordered([2, 3]), y: ordered([3]), z: ordered([2, 1]) },
      (b, { x, y, z }) => b.call("Min", [x, b.add(y, 0.17), b.add(z, 0.33)]),
    ),
    "one": unary("Min"),
  },
  Max: {
    "two": opCase({ x: ordered([2, 3]), y: [2, 3] }, (b, { x, y }) => b.max(x, b.mul(y, 1e-2))),
    "three, broadcast": opCase(
      { x: ordered([2, 3]), y: ordered([3]), z: ordered([2, 1]) },
      (b, { x, y, z }) => b.call("Max", [x, b.add(y, 0.17), b.add(z, 0.33)]),
    ),
    "scalar": opCase({ x: wide }, (b, { x }) => b.max(x, 0)),
  },
  Sum: {
    "three, broadcast": opCase(
      { x: [2, 3], y: [3], z: [2, 1] },
      (b, { x, y, z }) => b.call("Sum", [x, y, z]),
    ),
    "one": unary("Sum"),
    "twice the same": opCase({ x: [2, 3] }, (b, { x }) => b.call("Sum", [x, x])),
  },
  Mean: {
    "three, broadcast": opCase(
      { x: [2, 3], y: [3], z: [2, 1] },
      (b, { x, y, z }) => b.call("Mean", [x, y, z]),
      { twin: (b, { x, y, z }) => b.div(b.add(b.add(x, y), z), 3) },
    ),
  },
  Where: {
    "one shape": opCase(
      { c: bools([2, 3], [1, 0, 0, 1, 1, 0]), x: [2, 3], y: [2, 3] },
      (b, { c, x, y }) => b.where(c, x, y),
    ),
    "condition is broadcast": opCase(
      { c: bools([3], [1, 0, 1]), x: [2, 3], y: [] },
      (b, { c, x, y }) => b.where(c, x, y),
    ),
    "both are broadcast": opCase(
      { c: bools([2, 3], [1, 0, 0, 1, 1, 0]), x: [2, 1], y: [3] },
      (b, { c, x, y }) => b.where(c, x, y),
    ),
  },
} satisfies Record<string, Record<string, OpCase>>;
