import { floatOf, stringOf } from "../attributes.ts";
import { binary, cotangent, input, output, type Rule, unary } from "./_types.ts";

const TWO_OVER_ROOT_PI = 2 / Math.sqrt(Math.PI);

/** d gelu / dx: Φ(x) + x φ(x), or the derivative of the tanh form. */
const gelu: Rule = unary((b, dy, x, _y, c) => {
  if (stringOf(c.attributes, "approximate", "none") === "none") {
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

/** y = x s(αx): dy/dx = s + α y (1 - s). */
const quickGelu: Rule = unary((b, dy, x, y, c) => {
  const alpha = floatOf(c.attributes, "alpha", 1.702);
  const s = b.sigmoid(alpha === 1 ? x : b.mul(x, alpha));
  const rest = b.mul(alpha === 1 ? y : b.mul(y, alpha), b.sub(1, s));
  return b.mul(dy, b.add(s, rest));
});

/** The share of dy that goes to each operand of Min or Max: ties go to the first that attains the extremum. */
const extremum: Rule = (c) => {
  const { b } = c;
  const dy = cotangent(c);
  const y = output(c);
  const zero = b.scalar(0, dy.dtype);
  let left = dy;
  return c.inputs.map((_, i) => {
    const hit = b.equal(input(c, i), y);
    const share = b.where(hit, left, zero);
    left = b.where(hit, zero, left);
    return share;
  });
};

const pass: Rule = unary((_b, dy) => dy);

/** Rules of element-wise operators. One line where one line will do. */
export const ELEMENTWISE_RULES = {
  Identity: pass,
  StraightThrough: (c) => [cotangent(c), undefined],
  Neg: unary((b, dy) => b.neg(dy)),
  Abs: unary((b, dy, x) => b.mul(dy, b.sign(x))),
  Exp: unary((b, dy, _x, y) => b.mul(dy, y)),
  Log: unary((b, dy, x) => b.div(dy, x)),
  // d√x = dx / 2√x
  Sqrt: unary((b, dy, _x, y) => b.div(b.mul(dy, 0.5), y)),
  // d(1/x) = -dx / x²
  Reciprocal: unary((b, dy, _x, y) => b.neg(b.mul(dy, b.mul(y, y)))),
  Sin: unary((b, dy, x) => b.mul(dy, b.cos(x))),
  Cos: unary((b, dy, x) => b.neg(b.mul(dy, b.sin(x)))),
  Tanh: unary((b, dy, _x, y) => b.mul(dy, b.sub(1, b.mul(y, y)))),
  Sigmoid: unary((b, dy, _x, y) => b.mul(dy, b.mul(y, b.sub(1, y)))),
  Erf: unary((b, dy, x) => b.mul(dy, b.mul(b.exp(b.neg(b.mul(x, x))), TWO_OVER_ROOT_PI))),
  Gelu: gelu,
  QuickGelu: quickGelu,
  Relu: unary((b, dy, x) => b.where(b.greater(x, 0), dy, b.scalar(0, x.dtype))),
  LeakyRelu: unary((b, dy, x, _y, c) =>
    b.where(b.greater(x, 0), dy, b.mul(dy, floatOf(c.attributes, "alpha", 0.01)))
  ),
  // Below 0: y = α(eˣ - 1), so dy/dx = y + α.
  Elu: unary((b, dy, x, y, c) =>
    b.where(b.greater(x, 0), dy, b.mul(dy, b.add(y, floatOf(c.attributes, "alpha", 1))))
  ),
  Softplus: unary((b, dy, x) => b.mul(dy, b.sigmoid(x))),
  Clip: (c) => {
    const { b } = c;
    const [x, low, high] = [input(c, 0), c.inputs[1], c.inputs[2]];
    const dy = cotangent(c);
    const zero = b.scalar(0, dy.dtype);
    const within = (v: typeof dy) => {
      const kept = low === undefined ? v : b.where(b.less(x, low), zero, v);
      return high === undefined ? kept : b.where(b.greater(x, high), zero, kept);
    };
    return [
      c.wants[0] ? within(dy) : undefined,
      c.wants[1] && low !== undefined ? b.where(b.less(x, low), dy, zero) : undefined,
      c.wants[2] && high !== undefined ? b.where(b.greater(x, high), dy, zero) : undefined,
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
  // d(xᵖ) = p xᵖ⁻¹ dx + xᵖ log x dp
  Pow: binary(
    (b, dy, x, p) => b.mul(dy, b.mul(p, b.pow(x, b.sub(p, 1)))),
    (b, dy, x, _p, out) => b.mul(dy, b.mul(out, b.log(x))),
  ),
  Min: extremum,
  Max: extremum,
  Sum: (c) => c.inputs.map(() => cotangent(c)),
  Where: (c) => {
    const { b } = c;
    const dy = cotangent(c);
    const zero = b.scalar(0, dy.dtype);
    return [undefined, b.where(input(c, 0), dy, zero), b.where(input(c, 0), zero, dy)];
  },
  Cast: unary((b, dy, x) => b.cast(dy, x.dtype)),
} satisfies Record<string, Rule>;
