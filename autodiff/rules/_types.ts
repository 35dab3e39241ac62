import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import type { AttributeValues, OpName } from "../infer/mod.ts";

/** What a gradient rule sees of a node with attributes `A`. */
export interface RuleContext<A = unknown> {
  readonly b: Builder;
  readonly inputs: readonly (Value | undefined)[];
  readonly outputs: readonly Value[];
  readonly attributes: A;
  /** d result / d output, `undefined` where no gradient arrives. At least one is defined. */
  readonly cotangents: readonly (Value | undefined)[];
  /** Which inputs need a gradient: a rule may leave the others out. */
  readonly wants: readonly boolean[];
}

/**
 * Returns d result / d input for each input, `undefined` for those that `wants` leaves out. A gradient may have any
 * shape that broadcasts with the input's: the engine sums it down or expands it.
 */
export type Rule<A = unknown> = (c: RuleContext<A>) => readonly (Value | undefined)[];

/** Rules by operator, each of the attributes that its operator has. */
export type Rules = { readonly [Op in OpName]?: Rule<AttributeValues[Op]> };

/** Input `i`, which the operator requires. */
export function input(c: RuleContext, i: number): Value {
  const v = c.inputs[i];
  if (v === undefined) throw new RangeError(`Input ${i} is missing`);
  return v;
}

/** Output `i`. */
export function output(c: RuleContext, i = 0): Value {
  const v = c.outputs[i];
  if (v === undefined) throw new RangeError(`Output ${i} is missing`);
  return v;
}

/** The gradient that arrives at output 0. */
export function cotangent(c: RuleContext): Value {
  const v = c.cotangents[0];
  if (v === undefined) throw new RangeError("No gradient arrives at output 0");
  return v;
}

/** A rule for one differentiable input: dx from dy, x, y. */
export function unary<A>(
  rule: (b: Builder, dy: Value, x: Value, y: Value, c: RuleContext<A>) => Value,
): Rule<A> {
  return (c) => [rule(c.b, cotangent(c), input(c, 0), output(c), c)];
}

/** A rule for two inputs; each side is computed only where it is wanted. */
export function binary(
  left: (b: Builder, dy: Value, x: Value, y: Value, out: Value) => Value,
  right: (b: Builder, dy: Value, x: Value, y: Value, out: Value) => Value,
): Rule {
  return (c) => {
    const [x, y, dy, out] = [input(c, 0), input(c, 1), cotangent(c), output(c)];
    return [
      c.wants[0] ? left(c.b, dy, x, y, out) : undefined,
      c.wants[1] ? right(c.b, dy, x, y, out) : undefined,
    ];
  };
}

/** dy where a condition holds, 0 elsewhere. */
export function only(b: Builder, condition: Value, dy: Value): Value {
  return b.where(condition, dy, b.scalar(0, dy.dtype));
}

/** dy where a condition does not hold, 0 elsewhere. */
export function except(b: Builder, condition: Value, dy: Value): Value {
  return b.where(condition, b.scalar(0, dy.dtype), dy);
}
