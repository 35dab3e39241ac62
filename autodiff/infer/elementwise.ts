import { constantOf } from "../constant_of.ts";
import { dtypeOfOnnx } from "../onnx_dtype.ts";
import { isFloat, type Shape } from "../tensor.ts";
import { plain, spec } from "./_spec.ts";
import {
  broadcast,
  type Infer,
  type InferContext,
  required,
  requiredFloat,
  sameDType,
  type,
} from "./_types.ts";

const same = plain((c) => {
  const x = required(c, 0);
  return [type(x.dtype, x.shape)];
});

const sameFloat: Infer = (c) => {
  const x = requiredFloat(c, 0);
  return [type(x.dtype, x.shape)];
};

const floating = plain(sameFloat);

/** An activation with one parameter. */
const withAlpha = (alpha: number) => spec((r) => ({ alpha: r.float("alpha", alpha) }), sameFloat);

function broadcastAll(c: InferContext): Shape {
  const first = required(c, 0);
  return c.inputs.reduce<Shape>((shape, _, i) => {
    const v = required(c, i);
    sameDType(first, v);
    return broadcast(shape, v.shape);
  }, first.shape);
}

const combined: Infer = (c) => [type(required(c, 0).dtype, broadcastAll(c))];

const nary = plain(combined);

const compared: Infer = (c) => [type("bool", broadcastAll(c))];

const compare = plain(compared);

const logic = plain((c) => {
  const { dtype } = required(c, 0);
  if (dtype !== "bool") throw new Error(`Input 0 is ${dtype}, expected bool`);
  return compared(c);
});

const test: Infer = (c) => [type("bool", requiredFloat(c, 0).shape)];

/** Element-wise operators and those that keep shape. */
export const ELEMENTWISE = {
  Abs: same,
  Neg: same,
  Sign: same,
  Relu: floating,
  LeakyRelu: withAlpha(0.01),
  Elu: withAlpha(1),
  Selu: spec((r) => ({
    alpha: r.float("alpha", 1.67326319217681884765625),
    gamma: r.float("gamma", 1.05070102214813232421875),
  }), sameFloat),
  Celu: withAlpha(1),
  HardSigmoid: spec(
    (r) => ({ alpha: r.float("alpha", 0.2), beta: r.float("beta", 0.5) }),
    sameFloat,
  ),
  HardSwish: floating,
  Softplus: floating,
  Softsign: floating,
  Mish: floating,
  ThresholdedRelu: withAlpha(1),
  Exp: floating,
  Log: floating,
  Sqrt: floating,
  Reciprocal: floating,
  Sin: floating,
  Cos: floating,
  Tan: floating,
  Asin: floating,
  Acos: floating,
  Atan: floating,
  Sinh: floating,
  Cosh: floating,
  Asinh: floating,
  Acosh: floating,
  Atanh: floating,
  Tanh: floating,
  Sigmoid: floating,
  Erf: floating,
  Gelu: spec((r) => ({ approximate: r.string("approximate", "none") }), sameFloat),
  QuickGelu: withAlpha(1.702),
  Floor: floating,
  Ceil: floating,
  Round: floating,
  Identity: same,
  /** In inference only, where it is the identity. Optional output 1: the mask. */
  Dropout: plain((c) => {
    const x = requiredFloat(c, 0);
    const training = c.inputs[2];
    if (training !== undefined && constantOf(training)?.data[0] !== 0) {
      throw new Error("Dropout in training mode is not supported");
    }
    return [type(x.dtype, x.shape), type("bool", x.shape)];
  }),
  Clip: plain((c) => {
    const x = required(c, 0);
    for (const bound of c.inputs.slice(1)) {
      if (bound === undefined) continue;
      sameDType(x, bound);
      if (bound.shape.length > 0) throw new Error(`Bound is [${bound.shape}], expected a scalar`);
    }
    return [type(x.dtype, x.shape)];
  }),
  PRelu: plain((c) => {
    const x = requiredFloat(c, 0);
    if (broadcastAll(c).join() !== x.shape.join()) {
      throw new Error(`Slope [${c.inputs[1]?.shape}] does not broadcast to [${x.shape}]`);
    }
    return [type(x.dtype, x.shape)];
  }),
  Add: nary,
  Sub: nary,
  Mul: nary,
  Div: nary,
  Pow: plain((c) => {
    const [x, exponent] = [required(c, 0), required(c, 1)];
    return [type(x.dtype, broadcast(x.shape, exponent.shape))];
  }),
  Mod: spec((r) => ({ fmod: r.flag("fmod", false) }), (c) => {
    if (isFloat(required(c, 0).dtype) && !c.attributes.fmod) {
      throw new Error("Attribute fmod is 0, expected 1 for floating dtypes");
    }
    return combined(c);
  }),
  Min: nary,
  Max: nary,
  Sum: nary,
  Mean: nary,
  And: logic,
  Or: logic,
  Xor: logic,
  Not: logic,
  Equal: compare,
  Greater: compare,
  GreaterOrEqual: compare,
  Less: compare,
  LessOrEqual: compare,
  IsNaN: plain(test),
  IsInf: spec((r) => ({
    detect_negative: r.flag("detect_negative", true),
    detect_positive: r.flag("detect_positive", true),
  }), test),
  Where: plain((c) => {
    const [condition, x, y] = [required(c, 0), required(c, 1), required(c, 2)];
    if (condition.dtype !== "bool") {
      throw new Error(`Condition is ${condition.dtype}, expected bool`);
    }
    sameDType(x, y);
    return [type(x.dtype, broadcast(condition.shape, broadcast(x.shape, y.shape)))];
  }),
  Cast: spec(
    (r) => ({ to: r.int("to") }),
    (c) => [type(dtypeOfOnnx(c.attributes.to), required(c, 0).shape)],
  ),
  /** Forward: the identity. Backward: nothing. Written as `Identity` in the model. */
  StopGradient: same,
  /** Inputs x and f: forward f, gradient to x unchanged. Written as `Identity` of f in the model. */
  StraightThrough: plain((c) => {
    const [x, f] = [requiredFloat(c, 0), requiredFloat(c, 1)];
    sameDType(x, f);
    if (x.shape.join() !== f.shape.join()) {
      throw new Error(`Shapes differ: [${x.shape}] and [${f.shape}]`);
    }
    return [type(f.dtype, f.shape)];
  }),
};
