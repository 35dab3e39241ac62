import type { Builder } from "./builder.ts";
import { GradientError } from "./errors.ts";
import type { Node, Value } from "./graph.ts";
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
 * operators with a declared zero derivative).
 */
export function gradient(
  b: Builder,
  seeds: readonly Seed[],
  wrt: readonly Value[],
  options: { readonly unreached?: "error" | "zero" } = {},
): readonly Value[] {
  const active = activeValues(b, wrt);
  const arriving = new Map<Value, Value[]>();
  for (const { value, cotangent } of seeds) {
    check(cotangent, value, `Cotangent of "${value.name}"`);
    push(arriving, value, cotangent);
  }
  const total = (v: Value): Value | undefined => {
    const parts = arriving.get(v);
    if (parts === undefined) return undefined;
    const [first] = parts;
    const sum = parts.length === 1 ? first : b.call("Sum", parts);
    if (sum !== undefined) arriving.set(v, [sum]);
    return sum;
  };
  const last = b.nodes.length;
  for (let i = last - 1; i >= 0; i--) {
    const node = b.nodes[i];
    if (node === undefined || !node.outputs.some((v) => active.has(v) && arriving.has(v))) continue;
    const wants = node.inputs.map((v, k) =>
      v !== undefined && active.has(v) && !isStopEdge(node.op, k)
    );
    if (!wants.some(Boolean)) continue;
    const rule = RULES[node.op];
    if (rule === undefined) {
      throw new GradientError(
        `Operator ${node.op} has no gradient rule (node ${node.name}; reached from ${
          path(node, active, wrt)
        })`,
      );
    }
    const gradients = b.scope(`grad/${node.name}`, () =>
      rule({
        b,
        inputs: node.inputs,
        outputs: node.outputs,
        attributes: node.attributes,
        cotangents: node.outputs.map(total),
        wants,
      }));
    for (const [k, v] of node.inputs.entries()) {
      if (v === undefined || !wants[k]) continue;
      const g = gradients[k];
      if (g === undefined) {
        throw new GradientError(
          `The rule of ${node.op} gave no gradient for input ${k} (${node.name})`,
        );
      }
      const fitted = unbroadcast(b, g, v.shape);
      check(fitted, v, `Gradient of input ${k} of ${node.name}`);
      push(arriving, v, fitted);
    }
  }
  return wrt.map((v) => {
    const g = total(v);
    if (g !== undefined) return g;
    if (options.unreached === "zero") return b.expand(b.scalar(0, v.dtype), v.shape);
    throw new GradientError(`No gradient reaches "${v.name}": the result does not depend on it`);
  });
}

/** Every value that some `wrt` influences through edges that gradients flow along. */
function activeValues(b: Builder, wrt: readonly Value[]): ReadonlySet<Value> {
  const active = new Set<Value>();
  for (const v of wrt) {
    if (!isFloat(v.dtype)) {
      throw new GradientError(`"${v.name}" is ${v.dtype}; gradients need a float`);
    }
    active.add(v);
  }
  for (const node of b.nodes) {
    if (node.inputs.some((v, k) => v !== undefined && active.has(v) && !isStopEdge(node.op, k))) {
      for (const v of node.outputs) if (isFloat(v.dtype)) active.add(v);
    }
  }
  return active;
}

/** Sums a gradient of broadcast shape down to `shape`. The only place where broadcasting is undone. */
function unbroadcast(b: Builder, g: Value, shape: Shape): Value {
  if (g.shape.join() === shape.join()) return g;
  const lead = g.shape.length - shape.length;
  if (lead < 0) return b.expand(g, shape);
  const axes = g.shape.flatMap((d, i) => i < lead || (shape[i - lead] === 1 && d !== 1) ? [i] : []);
  return b.reshape(b.sum(g, { axes }), shape);
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
    const from = at.inputs.find((v) => v !== undefined && active.has(v));
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
