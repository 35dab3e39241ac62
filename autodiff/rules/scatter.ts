import { int, string } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { type AttributeValues, normalizeAxis } from "../infer/mod.ts";
import {
  cotangent,
  except,
  input,
  output,
  type Rule,
  type RuleContext,
  type Rules,
} from "./_types.ts";

/** How a scatter operator puts updates at indices, and the operator that reads entries there. */
interface Places {
  /** x with updates combined at the indices. */
  put(x: Value, updates: Value, reduction?: "add" | "mul"): Value;
  /** Entries of x at the indices. */
  take(x: Value): Value;
}

/** Overwritten entries have no gradient; where indices repeat, which update stays is undefined, as in ONNX. */
function none({ b }: RuleContext, dy: Value, updates: Value, places: Places) {
  return [
    () => places.put(dy, b.expand(b.scalar(0, dy.dtype), updates.shape)),
    () => places.take(dy),
  ] as const;
}

/** All that attain the extremum share its gradient equally. */
function extremum(c: RuleContext, dy: Value, updates: Value, places: Places) {
  const { b } = c;
  const [x, y] = [input(c, 0), output(c)];
  const own = b.cast(b.equal(x, y), dy.dtype);
  const theirs = b.cast(b.equal(updates, places.take(y)), dy.dtype);
  const share = b.div(dy, places.put(own, theirs, "add"));
  return [() => b.mul(own, share), () => b.mul(theirs, places.take(share))] as const;
}

/**
 * y = x Π u: each factor's gradient is dy times the product of the others. With one zero among the updates at a place
 * that is the product without it, for it alone; with more there is none.
 */
function product(c: RuleContext, dy: Value, updates: Value, places: Places) {
  const { b } = c;
  const x = input(c, 0);
  const one = b.expand(b.scalar(1, x.dtype), x.shape);
  const factors = () => places.put(one, updates, "mul");
  const update = () => {
    const isZero = b.equal(updates, 0);
    const rest = b.where(isZero, b.scalar(1, x.dtype), updates);
    const zero = b.cast(isZero, x.dtype);
    const zeros = places.put(b.mul(one, 0), zero, "add");
    const others = b.sub(places.take(zeros), zero);
    const whole = places.take(b.mul(dy, places.put(x, rest, "mul")));
    return except(b, b.greater(others, 0.5), b.div(whole, rest));
  };
  return [() => b.mul(dy, factors()), update] as const;
}

/** The rule of a scatter operator. */
function scatter<A extends AttributeValues["ScatterND"]>(
  placesOf: (b: Builder, c: RuleContext<A>) => Places,
): Rule<A> {
  return (c) => {
    const [updates, dy] = [input(c, 2), cotangent(c)];
    const places = placesOf(c.b, c);
    const { reduction } = c.attributes;
    const [left, right] = reduction === "add"
      ? [() => dy, () => places.take(dy)]
      : (reduction === "none" ? none : reduction === "mul" ? product : extremum)(
        c,
        dy,
        updates,
        places,
      );
    return [
      c.wants[0] ? left() : undefined,
      undefined,
      c.wants[2] ? right() : undefined,
    ];
  };
}

const reduced = (reduction: "add" | "mul" | undefined) =>
  reduction === undefined ? {} : { reduction: string(reduction) };

/** Rules of operators that put updates at indices. */
export const SCATTER_RULES = {
  ScatterElements: scatter((b, c) => {
    const axis = int(normalizeAxis(c.attributes.axis, input(c, 0).shape.length));
    const indices = input(c, 1);
    return {
      put: (x, updates, reduction) =>
        b.call("ScatterElements", [x, indices, updates], { axis, ...reduced(reduction) }),
      take: (x) => b.call("GatherElements", [x, indices], { axis }),
    };
  }),
  ScatterND: scatter((b, c) => {
    const indices = input(c, 1);
    return {
      put: (x, updates, reduction) =>
        b.call("ScatterND", [x, indices, updates], reduced(reduction)),
      take: (x) => b.call("GatherND", [x, indices]),
    };
  }),
} satisfies Rules;
