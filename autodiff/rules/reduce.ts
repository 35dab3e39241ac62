import { intOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { axesOf, normalizeAxis } from "../infer/_types.ts";
import { sizeOf } from "../tensor.ts";
import { cotangent, input, output, type Rule, type RuleContext } from "./_types.ts";

/** Axes a reduction reduced. */
function reduced(c: RuleContext): readonly number[] {
  const x = input(c, 0);
  const axes = axesOf({ ...c, outputs: 1 }, 1, x.shape.length);
  if (axes !== undefined && axes.length > 0) return axes;
  const noop = intOf(c.attributes, "noop_with_empty_axes", 0) === 1;
  return noop ? [] : x.shape.map((_, i) => i);
}

/** A reduction's rule from dx in terms of dy and y with the reduced axes kept as 1. */
function reduction(
  rule: (b: Builder, dy: Value, x: Value, y: Value, count: number) => Value,
): Rule {
  return (c) => {
    const [x, y, dy] = [input(c, 0), output(c), cotangent(c)];
    const axes = new Set(reduced(c));
    const kept = x.shape.map((d, i) => axes.has(i) ? 1 : d);
    const count = sizeOf(x.shape.filter((_, i) => axes.has(i)));
    const dx = rule(c.b, c.b.reshape(dy, kept), x, c.b.reshape(y, kept), count);
    return [c.b.expand(dx, x.shape)];
  };
}

/** All elements that attain the extremum share the gradient equally. */
const extremum = reduction((b, dy, x, y) => {
  const hit = b.cast(b.equal(x, y), x.dtype);
  const axes = x.shape.flatMap((d, i) => y.shape[i] === 1 && d !== 1 ? [i] : []);
  return b.mul(hit, b.div(dy, b.sum(hit, { axes })));
});

const softmax: Rule = (c) => {
  const { b } = c;
  const [y, dy] = [output(c), cotangent(c)];
  const axes = [normalizeAxis(intOf(c.attributes, "axis", -1), y.shape.length)];
  // dx = y (dy - Σ y dy)
  return [b.mul(y, b.sub(dy, b.sum(b.mul(y, dy), { axes })))];
};

const logSoftmax: Rule = (c) => {
  const { b } = c;
  const [y, dy] = [output(c), cotangent(c)];
  const axes = [normalizeAxis(intOf(c.attributes, "axis", -1), y.shape.length)];
  // dx = dy - softmax(x) Σ dy
  return [b.sub(dy, b.mul(b.exp(y), b.sum(dy, { axes })))];
};

/** Rules of reductions and normalised exponentials. */
export const REDUCE_RULES = {
  ReduceSum: reduction((_b, dy) => dy),
  ReduceMean: reduction((b, dy, _x, _y, count) => b.mul(dy, 1 / count)),
  ReduceMax: extremum,
  ReduceMin: extremum,
  // d|x|₁ = sign(x) dx
  ReduceL1: reduction((b, dy, x) => b.mul(dy, b.sign(x))),
  // d‖x‖ = x dx / ‖x‖
  ReduceL2: reduction((b, dy, x, y) => b.mul(x, b.div(dy, y))),
  ReduceSumSquare: reduction((b, dy, x) => b.mul(b.mul(dy, 2), x)),
  ReduceLogSumExp: reduction((b, dy, x, y) => b.mul(dy, b.exp(b.sub(x, y)))),
  Softmax: softmax,
  LogSoftmax: logSoftmax,
} satisfies Record<string, Rule>;
