import type { Attributes } from "./attributes.ts";
import type { Builder } from "./builder.ts";
import { GradientError } from "./errors.ts";
import type { Graph, Node, Value } from "./graph.ts";
import { attributesOf, type AttributeValues, type OpName } from "./infer/mod.ts";
import { readsOf } from "./reads.ts";
import type { Rule, RuleContext, Rules } from "./rules/_types.ts";
import { RULES } from "./rules/mod.ts";
import { isStopEdge } from "./rules/stop_edges.ts";
import { isFloat, type Shape } from "./tensor.ts";

/** A result to differentiate and what arrives at it: d loss / d value, of the value's dtype and shape. */
export interface Seed {
  readonly value: Value;
  readonly cotangent: Value;
}

/**
 * Appends to `b` the vector-Jacobian products of `seeds` and returns d loss / d x for each x of `wrt`, of x's shape.
 * Only nodes between `wrt` and the seeds are visited.
 *
 * Throws `GradientError` where an operator on the way has no rule, and where no gradient reaches some x (unless
 * `unreached` is "zero", which returns zeros: a value that the result does not depend on, or only through
 * operators with a declared zero derivative). `into` is a graph inside one of `b`'s nodes to append to instead, as a
 * branch of an If is.
 *
 * @example Value and gradient of a loss, computed by ONNX Runtime
 * ```ts
 * import { Builder, float32 } from "./mod.ts";
 * import { compile, CPU_TARGET } from "../compile/mod.ts";
 * import { openEngine } from "../runtime/mod.ts";
 *
 * const b = new Builder({ differentiable: true });
 * const x = b.input("x", { dtype: "float32", shape: [3] });
 * const loss = b.sum(b.mul(b.sigmoid(x), x), { keepDims: false });
 * const [slope] = gradient(b, [{ value: loss, cotangent: b.scalar(1, "float32") }], [x]);
 * if (slope === undefined) throw new Error("No gradient");
 *
 * const { bytes, sessionOptions } = compile(b, { loss, slope }, CPU_TARGET);
 * const engine = await openEngine({ isolation: "in-process" });
 * const session = await engine.load({ bytes }, sessionOptions);
 * const found = await session.run({ x: float32([-1, 0, 2]) });
 * // sigmoid(x) (1 + x (1 - sigmoid(x)))
 * const expected = [0.0723295, 0.5, 1.0907843];
 * for (const [i, value] of expected.entries()) {
 *   if (!(Math.abs(Number(found["slope"]?.data[i]) - value) < 1e-6)) throw new Error(`At ${i}`);
 * }
 * await engine.close();
 * ```
 */
export function gradient(
  b: Builder,
  seeds: readonly Seed[],
  wrt: readonly Value[],
  options: { readonly unreached?: "error" | "zero"; readonly into?: Builder } = {},
): readonly Value[] {
  const { unreached = "error", into = b } = options;
  return differentiate(b, { seeds, wrt, rules: RULES, unreached, into });
}

/** `gradient` with the rules as an argument, so that a test can leave one out. */
export function differentiate(
  forward: Builder,
  { seeds, wrt, rules, unreached, into: b = forward }: {
    readonly seeds: readonly Seed[];
    readonly wrt: readonly Value[];
    readonly rules: Rules;
    readonly unreached: "error" | "zero";
    readonly into?: Builder;
  },
): readonly Value[] {
  const active = activeValues(forward, wrt);
  const arriving = new Map<Value, Value[]>();
  for (const { value, cotangent } of seeds) {
    check(cotangent, value, `Cotangent of "${value.name}"`);
    push(arriving, value, cotangent);
  }
  const total = (v: Value): Value | undefined => {
    const parts = arriving.get(v);
    if (parts === undefined) return undefined;
    const sum = b.total(parts);
    arriving.set(v, [sum]);
    return sum;
  };
  for (const node of forward.nodes.toReversed()) {
    if (!node.outputs.some((v) => active.has(v) && arriving.has(v))) continue;
    const wants = node.inputs.map((v, k) =>
      v !== undefined && active.has(v) && !isStopEdge(node.op, k)
    );
    const at = () => `node ${node.name}; reached from ${path(node, active, wrt)}`;
    const rule = ruleOf(rules, node.op, node.attributes);
    // What an operator with graphs inside reads need not be among its inputs.
    if (rule !== undefined && !wants.some(Boolean)) continue;
    if (rule === undefined) {
      throw new GradientError(`Operator ${node.op} has no gradient rule (${at()})`);
    }
    const gradients = b.scope(`grad/${node.name}`, () => {
      const { inputs, outputs } = node;
      return rule({ b, inputs, outputs, cotangents: outputs.map(total), wants });
    });
    for (const [k, v] of node.inputs.entries()) {
      if (v === undefined || !wants[k]) continue;
      const g = gradients[k];
      if (g === undefined) {
        throw new GradientError(`Rule of ${node.op} gives no gradient for input ${k} (${at()})`);
      }
      const fitted = fit(b, g, v.shape);
      check(fitted, v, `Gradient of input ${k} of ${node.name}`);
      push(arriving, v, fitted);
    }
  }
  return wrt.map((v) => {
    const g = total(v);
    if (g !== undefined) return g;
    if (unreached === "zero") return b.expand(b.scalar(0, v.dtype), v.shape);
    throw new GradientError(`No gradient reaches "${v.name}": the result does not depend on it`);
  });
}

/** The rule of an operator for a node with these attributes. */
function ruleOf<Op extends OpName>(rules: Rules, op: Op, given: Attributes) {
  const rule: Rule<AttributeValues[Op]> | undefined = rules[op];
  return rule &&
    ((c: Omit<RuleContext, "attributes">) => rule({ ...c, attributes: attributesOf(op, given) }));
}

/** Every value that some `wrt` influences through edges that gradients flow along: those with a gradient to pass on. */
export function activeValues(b: Graph, wrt: readonly Value[]): ReadonlySet<Value> {
  const active = new Set<Value>();
  for (const v of wrt) {
    if (!isFloat(v.dtype)) {
      throw new GradientError(`"${v.name}" is ${v.dtype}; gradients need a float`);
    }
    active.add(v);
  }
  for (const node of b.nodes) {
    const reads = readsOf(node);
    if (reads.some((v, k) => v !== undefined && active.has(v) && !isStopEdge(node.op, k))) {
      for (const v of node.outputs) if (isFloat(v.dtype)) active.add(v);
    }
  }
  return active;
}

/** Brings a gradient to `shape`: the only place where broadcasting is undone. */
function fit(b: Builder, g: Value, shape: Shape): Value {
  const lead = Math.max(g.shape.length - shape.length, 0);
  const skip = Math.max(shape.length - g.shape.length, 0);
  const axes = g.shape.flatMap((d, i) =>
    d !== 1 && (i < lead || shape[i - lead + skip] === 1) ? [i] : []
  );
  const summed = b.sum(g, { axes });
  return b.expand(lead === 0 ? summed : b.reshape(summed, summed.shape.slice(lead)), shape);
}

function check(g: Value, v: Value, what: string): void {
  if (g.dtype !== v.dtype || g.shape.join() !== v.shape.join()) {
    throw new GradientError(
      `${what} is ${g.dtype}[${g.shape}], expected ${v.dtype}[${v.shape}]`,
    );
  }
}

function push(map: Map<Value, Value[]>, v: Value, g: Value): void {
  const list = map.get(v);
  if (list === undefined) map.set(v, [g]);
  else list.push(g);
}

/** Node names from an input of interest to `node`, for messages. */
function path(node: Node, active: ReadonlySet<Value>, wrt: readonly Value[]): string {
  const names: string[] = [];
  let at: Node = node;
  while (names.length < 12) {
    const { op } = at;
    const from = readsOf(at).find((v, k) => v !== undefined && active.has(v) && !isStopEdge(op, k));
    if (from === undefined) break;
    if (wrt.includes(from) || from.source.kind !== "node") {
      names.push(from.name);
      return names.reverse().join(" -> ");
    }
    at = from.source.node;
    names.push(at.name);
  }
  return `... -> ${names.reverse().join(" -> ")}`;
}
