import { int } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { type AttributeValues, normalizeAxis } from "../infer/mod.ts";
import { reducedAxes } from "../infer/reduce.ts";
import { sizeOf } from "../tensor.ts";
import { cotangent, except, input, output, type Rule, type Rules, unary } from "./_types.ts";

/** What a reduction reduced. */
interface Reduced {
  readonly axes: readonly number[];
  /** How many entries make one. */
  readonly count: number;
}

/** A reduction's rule: dx in terms of dy and y with the reduced axes kept as 1. The engine expands it to x's shape. */
function reduction(
  rule: (b: Builder, dy: Value, x: Value, y: Value, reduced: Reduced) => Value,
): Rule<AttributeValues["ReduceSum"]> {
  return unary((b, dy, x, y, c) => {
    const axes = reducedAxes(c);
    const kept = x.shape.map((d, i) => axes.includes(i) ? 1 : d);
    const count = sizeOf(x.shape) / sizeOf(kept);
    return rule(b, b.reshape(dy, kept), x, b.reshape(y, kept), { axes, count });
  });
}

/** All entries that attain the extremum share the gradient equally. */
export function extremum(b: Builder, dy: Value, x: Value, y: Value, { axes }: Reduced): Value {
  const hit = b.cast(b.equal(x, y), x.dtype);
  return b.mul(hit, b.div(dy, b.sum(hit, { axes })));
}

/** dx = dy Π of the others: with one zero among them only its own entry has a gradient, with more none. */
function product(b: Builder, dy: Value, x: Value, { axes }: Reduced): Value {
  const zero = b.equal(x, 0);
  const rest = b.where(zero, b.scalar(1, x.dtype), x);
  const zeros = b.cast(zero, x.dtype);
  const others = b.sub(b.sum(zeros, { axes }), zeros);
  const whole = b.call("ReduceProd", axes.length === 0 ? [rest] : [rest, b.ints(axes)], {
    noop_with_empty_axes: int(1),
  });
  return except(b, b.greater(others, 0), b.div(b.mul(dy, whole), rest));
}

/** A rule from the axis of a normalized exponential: dx = rule(dy, y, sum over the axis). */
function exponential(
  rule: (b: Builder, dy: Value, y: Value, sum: (v: Value) => Value) => Value,
): Rule<AttributeValues["Softmax"]> {
  return unary((b, dy, x, y, c) => {
    const axes = [normalizeAxis(c.attributes.axis, x.shape.length)];
    return rule(b, dy, y, (v) => b.sum(v, { axes }));
  });
}

/** The cotangent of the chosen entries goes back to where they were. */
const topK: Rule<AttributeValues["TopK"]> = (c) => {
  const { b } = c;
  const [x, indices] = [input(c, 0), output(c, 1)];
  const zero = b.expand(b.scalar(0, x.dtype), x.shape);
  const axis = int(c.attributes.axis);
  return [b.call("ScatterElements", [zero, indices, cotangent(c)], { axis })];
};

/** Rules of reductions, normalized exponentials and orderings. */
export const REDUCE_RULES = {
  ReduceSum: reduction((_b, dy) => dy),
  ReduceMean: reduction((b, dy, _x, _y, { count }) => b.mul(dy, 1 / count)),
  ReduceMax: reduction(extremum),
  ReduceMin: reduction(extremum),
  ReduceProd: reduction((b, dy, x, _y, reduced) => product(b, dy, x, reduced)),
  // d|x|₁ = sign(x) dx
  ReduceL1: reduction((b, dy, x) => b.mul(dy, b.sign(x))),
  // d‖x‖ = x dx / ‖x‖, and 0 at 0
  ReduceL2: reduction((b, dy, x, y) => b.mul(x, except(b, b.equal(y, 0), b.div(dy, y)))),
  ReduceSumSquare: reduction((b, dy, x) => b.mul(b.mul(dy, 2), x)),
  ReduceLogSum: reduction((b, dy, _x, y) => b.div(dy, b.exp(y))),
  ReduceLogSumExp: reduction((b, dy, x, y) => b.mul(dy, b.exp(b.sub(x, y)))),
  // dx = y (dy - Σ y dy)
  Softmax: exponential((b, dy, y, sum) => b.mul(y, b.sub(dy, sum(b.mul(y, dy))))),
  // dx = dy - softmax(x) Σ dy
  LogSoftmax: exponential((b, dy, y, sum) => b.sub(dy, b.mul(b.exp(y), sum(dy)))),
  // Each entry of x is in the sums from its own on: the sum of their cotangents, from the other end.
  CumSum: unary((b, dy, _x, _y, c) =>
    b.call("CumSum", [dy, c.inputs[1]], {
      exclusive: int(Number(c.attributes.exclusive)),
      reverse: int(Number(!c.attributes.reverse)),
    })
  ),
  TopK: topK,
} satisfies Rules;
