import { type Attributes, float, int, string } from "./attributes.ts";
import { Graph, type Value } from "./graph.ts";
import type { OpName } from "./infer/mod.ts";
import { onnxOfDType } from "./onnx_dtype.ts";
import { castNumber, type DType, int64, type Shape, sizeOf } from "./tensor.ts";

/** A graph value, or a number that becomes a scalar constant of the other operand's dtype. */
export type Operand = Value | number;

/** The part of `Builder` that writes constants and operators on single elements. */
export class ElementwiseBuilder extends Graph {
  /** The first output of an operator. */
  call(op: OpName, inputs: readonly (Value | undefined)[], attributes: Attributes = {}): Value {
    const [y] = this.op(op, inputs, attributes);
    if (y === undefined) throw new RangeError(`${op} has no output`);
    return y;
  }

  /** A constant filled with one number. */
  fill(value: number, { dtype, shape }: { dtype: DType; shape: Shape }): Value {
    return this.constant(
      castNumber(Array.from({ length: sizeOf(shape) }, () => value), { dtype, shape }),
    );
  }

  /** A scalar constant. */
  scalar(value: number, dtype: DType): Value {
    return this.constant(castNumber([value], { dtype, shape: [] }));
  }

  /** A constant vector of int64, as shapes and axes need. */
  ints(values: readonly number[]): Value {
    return this.constant(int64(BigInt64Array.from(values, BigInt), [values.length]));
  }

  /** A constant of `dtype` from numbers; the usual way to embed a table computed in float64. */
  table(values: ArrayLike<number>, { dtype, shape }: { dtype: DType; shape: Shape }): Value {
    return this.constant(castNumber(values, { dtype, shape }));
  }

  #pair(op: OpName, a: Operand, b: Operand): Value {
    const dtype = typeof a !== "number" ? a.dtype : typeof b !== "number" ? b.dtype : "float32";
    const left = typeof a === "number" ? this.scalar(a, dtype) : a;
    const right = typeof b === "number" ? this.scalar(b, dtype) : b;
    return this.call(op, [left, right]);
  }

  add(a: Operand, b: Operand): Value {
    return this.#pair("Add", a, b);
  }
  sub(a: Operand, b: Operand): Value {
    return this.#pair("Sub", a, b);
  }
  mul(a: Operand, b: Operand): Value {
    return this.#pair("Mul", a, b);
  }
  div(a: Operand, b: Operand): Value {
    return this.#pair("Div", a, b);
  }
  pow(a: Operand, b: Operand): Value {
    return this.#pair("Pow", a, b);
  }
  min(a: Operand, b: Operand): Value {
    return this.#pair("Min", a, b);
  }
  max(a: Operand, b: Operand): Value {
    return this.#pair("Max", a, b);
  }
  greater(a: Operand, b: Operand): Value {
    return this.#pair("Greater", a, b);
  }
  greaterOrEqual(a: Operand, b: Operand): Value {
    return this.#pair("GreaterOrEqual", a, b);
  }
  less(a: Operand, b: Operand): Value {
    return this.#pair("Less", a, b);
  }
  and(a: Value, b: Value): Value {
    return this.call("And", [a, b]);
  }
  equal(a: Operand, b: Operand): Value {
    return this.#pair("Equal", a, b);
  }
  neg(x: Value): Value {
    return this.call("Neg", [x]);
  }
  abs(x: Value): Value {
    return this.call("Abs", [x]);
  }
  sign(x: Value): Value {
    return this.call("Sign", [x]);
  }
  exp(x: Value): Value {
    return this.call("Exp", [x]);
  }
  log(x: Value): Value {
    return this.call("Log", [x]);
  }
  sqrt(x: Value): Value {
    return this.call("Sqrt", [x]);
  }
  reciprocal(x: Value): Value {
    return this.call("Reciprocal", [x]);
  }
  sin(x: Value): Value {
    return this.call("Sin", [x]);
  }
  cos(x: Value): Value {
    return this.call("Cos", [x]);
  }
  tanh(x: Value): Value {
    return this.call("Tanh", [x]);
  }
  sigmoid(x: Value): Value {
    return this.call("Sigmoid", [x]);
  }
  relu(x: Value): Value {
    return this.call("Relu", [x]);
  }
  /** alpha (e^x - 1) below 0, x above. */
  elu(x: Value, alpha = 1): Value {
    return this.call("Elu", [x], { alpha: float(alpha) });
  }
  erf(x: Value): Value {
    return this.call("Erf", [x]);
  }
  /** Rounds half to even. Its derivative is zero: see `straightThrough` for another. */
  round(x: Value): Value {
    return this.call("Round", [x]);
  }
  /** Exact GELU, x Φ(x), or its tanh approximation. */
  gelu(x: Value, approximate: "none" | "tanh" = "none"): Value {
    return this.call("Gelu", [x], { approximate: string(approximate) });
  }
  /** x sigmoid(1.702 x), as OpenAI's CLIP. */
  quickGelu(x: Value): Value {
    return this.call("QuickGelu", [x], { alpha: float(1.702) });
  }
  /** x sigmoid(x), also called swish. */
  silu(x: Value): Value {
    return this.call("QuickGelu", [x], { alpha: float(1) });
  }
  where(condition: Value, x: Value, y: Value): Value {
    return this.call("Where", [condition, x, y]);
  }
  cast(x: Value, to: DType): Value {
    return x.dtype === to ? x : this.call("Cast", [x], { to: int(onnxOfDType(to)) });
  }
  identity(x: Value): Value {
    return this.call("Identity", [x]);
  }
  /** x, through which no gradient flows. */
  stopGradient(x: Value): Value {
    return this.call("StopGradient", [x]);
  }
  /** The value of `forward` with the gradient of `x`: d/dx is the identity. Shapes must agree. */
  straightThrough(x: Value, forward: Value): Value {
    return this.call("StraightThrough", [x, forward]);
  }
}
