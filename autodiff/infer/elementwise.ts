import { intOf } from "../attributes.ts";
import { dtypeOfOnnx } from "../onnx_dtype.ts";
import type { Shape } from "../tensor.ts";
import {
  broadcast,
  type Infer,
  type InferContext,
  required,
  requiredFloat,
  sameDType,
  type,
} from "./_types.ts";

const same: Infer = (c) => {
  const x = required(c, 0);
  return [type(x.dtype, x.shape)];
};

const floating: Infer = (c) => {
  const x = requiredFloat(c, 0);
  return [type(x.dtype, x.shape)];
};

function broadcastAll(c: InferContext): Shape {
  const first = required(c, 0);
  let shape = first.shape;
  for (let i = 1; i < c.inputs.length; i++) {
    const v = required(c, i);
    sameDType(first, v);
    shape = broadcast(shape, v.shape);
  }
  return shape;
}

const nary: Infer = (c) => [type(required(c, 0).dtype, broadcastAll(c))];

const compare: Infer = (c) => {
  broadcastAll(c);
  return [type("bool", broadcast(required(c, 0).shape, required(c, 1).shape))];
};

/** Element-wise operators and those that keep shape. */
export const ELEMENTWISE = {
  Abs: same,
  Neg: same,
  Sign: same,
  Relu: floating,
  LeakyRelu: floating,
  Elu: floating,
  Selu: floating,
  Celu: floating,
  HardSigmoid: floating,
  HardSwish: floating,
  Softplus: floating,
  Softsign: floating,
  Mish: floating,
  ThresholdedRelu: floating,
  Exp: floating,
  Log: floating,
  Sqrt: floating,
  Reciprocal: floating,
  Sin: floating,
  Cos: floating,
  Tanh: floating,
  Sigmoid: floating,
  Erf: floating,
  Gelu: floating,
  QuickGelu: floating,
  Floor: floating,
  Ceil: floating,
  Round: floating,
  Identity: same,
  Dropout: (c) => {
    const x = required(c, 0);
    return [type(x.dtype, x.shape), type("bool", x.shape)];
  },
  Clip: same,
  PRelu: (c) => {
    const x = required(c, 0);
    sameDType(x, required(c, 1));
    return [type(x.dtype, x.shape)];
  },
  Add: nary,
  Sub: nary,
  Mul: nary,
  Div: nary,
  Pow: (c) => [
    type(required(c, 0).dtype, broadcast(required(c, 0).shape, required(c, 1).shape)),
  ],
  Mod: nary,
  Min: nary,
  Max: nary,
  Sum: nary,
  Mean: nary,
  And: compare,
  Or: compare,
  Xor: compare,
  Not: same,
  Equal: compare,
  Greater: compare,
  GreaterOrEqual: compare,
  Less: compare,
  LessOrEqual: compare,
  IsNaN: (c) => [type("bool", requiredFloat(c, 0).shape)],
  IsInf: (c) => [type("bool", requiredFloat(c, 0).shape)],
  Where: (c) => {
    const test = required(c, 0);
    const x = required(c, 1);
    const y = required(c, 2);
    if (test.dtype !== "bool") throw new Error(`Condition is ${test.dtype}, expected bool`);
    sameDType(x, y);
    return [type(x.dtype, broadcast(test.shape, broadcast(x.shape, y.shape)))];
  },
  Cast: (c) => [
    type(dtypeOfOnnx(intOf(c.attributes, "to", 0)), required(c, 0).shape),
  ],
  /** Forward: the identity. Backward: nothing. Written as `Identity` in the model. */
  StopGradient: same,
  /** Inputs x and f: forward f, gradient to x unchanged. Written as `Identity` of f in the model. */
  StraightThrough: (c) => {
    const x = requiredFloat(c, 0);
    const f = requiredFloat(c, 1);
    sameDType(x, f);
    if (x.shape.join() !== f.shape.join()) {
      throw new Error(`Shapes differ: [${x.shape}] and [${f.shape}]`);
    }
    return [type(f.dtype, f.shape)];
  },
} satisfies Record<string, Infer>;
