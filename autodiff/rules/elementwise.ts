import { constantOf } from "../constant_of.ts";
import type { AttributeValues } from "../infer/mod.ts";
import { quickGeluGradient } from "../quick_gelu.ts";
import { isFloat } from "../tensor.ts";
import {
  binary,
  cotangent,
  except,
  input,
  only,
  output,
  type Rule,
  type Rules,
  unary,
} from "./_types.ts";

const TWO_OVER_ROOT_PI = 2 / Math.sqrt(Math.PI);

/** d gelu / dx: Φ(x) + x φ(x), or the derivative of the tanh form. */
const gelu: Rule<AttributeValues["Gelu"]> = unary((b, dy, x, _y, c) => {
  if (c.attributes.approximate === "none") {
    const phi = b.mul(b.exp(b.mul(b.mul(x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    const cdf = b.mul(b.add(b.erf(b.mul(x, Math.SQRT1_2)), 1), 0.5);
    return b.mul(dy, b.add(cdf, b.mul(x, phi)));
  }
  // y = x/2 (1 + tanh u), u = √(2/π) (x + 0.044715 x³)
  const k = Math.sqrt(2 / Math.PI);
  const square = b.mul(x, x);
  const t = b.tanh(b.mul(b.mul(x, k), b.add(b.mul(square, 0.044715), 1)));
  const du = b.mul(b.add(b.mul(square, 3 * 0.044715), 1), k);
  const slope = b.mul(b.mul(b.mul(x, 0.5), b.sub(1, b.mul(t, t))), du);
  return b.mul(dy, b.add(b.mul(b.add(t, 1), 0.5), slope));
});

/** The share of dy that goes to each operand of Min or Max: ties go to the first that attains the extremum. */
const extremum: Rule = (c) => {
  const { b } = c;
  let left = cotangent(c);
  return c.inputs.map((_, i) => {
    const hit = b.equal(input(c, i), output(c));
    const share = only(b, hit, left);
    left = except(b, hit, left);
    return share;
  });
};

/**
 * d(xᵖ) = p xᵖ⁻¹ dx + xᵖ log x dp; the second is 0 at x = 0, its limit for p > 0, and so is the first for a root, as a
 * square root's.
 */
const pow: Rule = binary(
  (b, dy, x, p) => {
    const exponent = constantOf(p);
    if (exponent?.data.length === 1 && Number(exponent.data[0]) === 2) {
      return b.mul(dy, b.mul(x, 2));
    }
    const slope = b.mul(dy, b.mul(b.cast(p, x.dtype), b.pow(x, b.sub(p, 1))));
    const isRoot = exponent?.data.length === 1 && isFloat(p.dtype) && p.dtype !== "float16" &&
      Number(exponent.data[0]) > 0 && Number(exponent.data[0]) < 1;
    return isRoot ? except(b, b.equal(x, 0), slope) : slope;
  },
  (b, dy, x, _p, y) => except(b, b.equal(x, 0), b.mul(dy, b.mul(y, b.log(x)))),
);

const pass: Rule = unary((_b, dy) => dy);

/** Rules of element-wise operators. One line where one line will do. */
export const ELEMENTWISE_RULES = {
  Identity: pass,
  Dropout: pass,
  StraightThrough: pass,
  Cast: unary((b, dy, x) => b.cast(dy, x.dtype)),
  Neg: unary((b, dy) => b.neg(dy)),
  Abs: unary((b, dy, x) => b.mul(dy, b.sign(x))),
  Exp: unary((b, dy, _x, y) => b.mul(dy, y)),
  Log: unary((b, dy, x) => b.div(dy, x)),
  // d√x = dx / 2√x; 0 at 0, as a norm's there: infinity would make NaN of it.
  Sqrt: unary((b, dy, _x, y) => except(b, b.equal(y, 0), b.div(b.mul(dy, 0.5), y))),
  // d(1/x) = -dx / x²
  Reciprocal: unary((b, dy, _x, y) => b.neg(b.mul(dy, b.mul(y, y)))),
  Sin: unary((b, dy, x) => b.mul(dy, b.cos(x))),
  Cos: unary((b, dy, x) => b.neg(b.mul(dy, b.sin(x)))),
  // d tan x = (1 + tan² x) dx
  Tan: unary((b, dy, _x, y) => b.mul(dy, b.add(b.mul(y, y), 1))),
  Asin: unary((b, dy, x) => b.div(dy, b.sqrt(b.sub(1, b.mul(x, x))))),
  Acos: unary((b, dy, x) => b.neg(b.div(dy, b.sqrt(b.sub(1, b.mul(x, x)))))),
  Atan: unary((b, dy, x) => b.div(dy, b.add(b.mul(x, x), 1))),
  Sinh: unary((b, dy, x) => b.mul(dy, b.call("Cosh", [x]))),
  Cosh: unary((b, dy, x) => b.mul(dy, b.call("Sinh", [x]))),
  Asinh: unary((b, dy, x) => b.div(dy, b.sqrt(b.add(b.mul(x, x), 1)))),
  Acosh: unary((b, dy, x) => b.div(dy, b.sqrt(b.sub(b.mul(x, x), 1)))),
  Atanh: unary((b, dy, x) => b.div(dy, b.sub(1, b.mul(x, x)))),
  Tanh: unary((b, dy, _x, y) => b.mul(dy, b.sub(1, b.mul(y, y)))),
  Sigmoid: unary((b, dy, _x, y) => b.mul(dy, b.mul(y, b.sub(1, y)))),
  Erf: unary((b, dy, x) => b.mul(dy, b.mul(b.exp(b.neg(b.mul(x, x))), TWO_OVER_ROOT_PI))),
  Gelu: gelu,
  QuickGelu: unary((b, dy, x, y, c) =>
    quickGeluGradient(b, { dy, x, y, alpha: c.attributes.alpha })
  ),
  Relu: unary((b, dy, x) => only(b, b.greater(x, 0), dy)),
  LeakyRelu: unary((b, dy, x, _y, c) =>
    b.where(b.greater(x, 0), dy, b.mul(dy, c.attributes.alpha))
  ),
  ThresholdedRelu: unary((b, dy, x, _y, c) => only(b, b.greater(x, c.attributes.alpha), dy)),
  // Below 0: y = α(eˣ - 1), so dy/dx = y + α.
  Elu: unary((b, dy, x, y, c) =>
    b.where(b.greater(x, 0), dy, b.mul(dy, b.add(y, c.attributes.alpha)))
  ),
  // Below 0: y = α(eˣ⸍ᵅ - 1), so dy/dx = y/α + 1.
  Celu: unary((b, dy, x, y, c) =>
    b.where(b.greater(x, 0), dy, b.mul(dy, b.add(b.div(y, c.attributes.alpha), 1)))
  ),
  // γx above 0, γα(eˣ - 1) = y below.
  Selu: unary((b, dy, x, y, c) => {
    const { alpha, gamma } = c.attributes;
    return b.mul(dy, b.where(b.greater(x, 0), b.scalar(gamma, x.dtype), b.add(y, alpha * gamma)));
  }),
  // Clamps αx + β to [0, 1].
  HardSigmoid: unary((b, dy, _x, y, c) =>
    only(b, b.and(b.greater(y, 0), b.less(y, 1)), b.mul(dy, c.attributes.alpha))
  ),
  // x (x + 3)/6 between -3 and 3, 0 below, x above.
  HardSwish: unary((b, dy, x) => {
    const middle = b.mul(dy, b.add(b.div(x, 3), 0.5));
    return b.where(b.greater(x, 3), dy, only(b, b.greater(x, -3), middle));
  }),
  Softplus: unary((b, dy, x) => b.mul(dy, b.sigmoid(x))),
  // d x/(1 + |x|) = dx / (1 + |x|)²
  Softsign: unary((b, dy, x) => b.div(dy, b.pow(b.add(b.abs(x), 1), 2))),
  // y = x t, t = tanh(softplus x): dy/dx = t + x (1 - t²) sigmoid(x)
  Mish: unary((b, dy, x) => {
    const t = b.tanh(b.call("Softplus", [x]));
    return b.mul(dy, b.add(t, b.mul(b.mul(x, b.sub(1, b.mul(t, t))), b.sigmoid(x))));
  }),
  PRelu: binary(
    (b, dy, x, slope) => b.where(b.greater(x, 0), dy, b.mul(dy, slope)),
    (b, dy, x) => except(b, b.greater(x, 0), b.mul(dy, x)),
  ),
  Clip: (c) => {
    const { b } = c;
    const [x, low, high, dy] = [input(c, 0), c.inputs[1], c.inputs[2], cotangent(c)];
    const below = low && b.less(x, low);
    const above = high && b.greater(x, high);
    const raised = below === undefined ? dy : except(b, below, dy);
    return [
      above === undefined ? raised : except(b, above, raised),
      below && only(b, below, dy),
      above && only(b, above, dy),
    ];
  },
  Add: binary((_b, dy) => dy, (_b, dy) => dy),
  Sub: binary((_b, dy) => dy, (b, dy) => b.neg(dy)),
  Mul: binary((b, dy, _x, y) => b.mul(dy, y), (b, dy, x) => b.mul(dy, x)),
  // d(x/y) = dx/y - (x/y) dy/y
  Div: binary(
    (b, dy, _x, y) => b.div(dy, y),
    (b, dy, _x, y, out) => b.neg(b.div(b.mul(dy, out), y)),
  ),
  // x = q y + out with a whole q: d out = dx - q dy
  Mod: binary(
    (_b, dy) => dy,
    (b, dy, x, y, out) => b.mul(dy, b.div(b.sub(out, x), y)),
  ),
  Pow: pow,
  Min: extremum,
  Max: extremum,
  Sum: (c) => c.inputs.map(() => cotangent(c)),
  Mean: (c) => {
    const share = c.b.mul(cotangent(c), 1 / c.inputs.length);
    return c.inputs.map(() => share);
  },
  Where: (c) => {
    const [condition, dy] = [input(c, 0), cotangent(c)];
    return [undefined, only(c.b, condition, dy), except(c.b, condition, dy)];
  },
} satisfies Rules;
