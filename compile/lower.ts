import {
  type Body,
  Builder,
  checkStage,
  type Graph,
  type Node,
  nodesNeeded,
  type Value,
} from "../autodiff/mod.ts";
import { inputsRead, lowered } from "./_lowerings.ts";
import type { Policy } from "./policy.ts";

/** Part of a graph as it is given to the runtime. */
export interface Lowered {
  readonly graph: Builder;
  readonly outputs: readonly Value[];
}

/**
 * A copy of the part of `graph` that `outputs` need, in operators the runtime has. Returns it with the outputs'
 * counterparts. All declared inputs are kept, and nodes keep their names. Throws `GraphError` where an operator that no
 * runtime has is left.
 */
export function lower(graph: Graph, outputs: readonly Value[], policy: Policy): Lowered {
  const copy = new Builder();
  const map = new Map(graph.inputs.map((v) => [v, copy.input(v.name, v)]));
  const lowered = lowerInto(copy, { graph, outputs }, { map, policy });
  checkStage(copy, "runnable");
  return { graph: copy, outputs: lowered };
}

/** Lowers one graph into an empty one; `map` holds counterparts, those of its inputs at least. */
function lowerInto(
  copy: Builder,
  { graph, outputs }: Body,
  { map, outer, policy }: {
    readonly map: Map<Value, Value>;
    readonly policy: Policy;
    /** Counterparts of values of the graphs around it. */
    readonly outer?: (v: Value) => Value;
  },
): readonly Value[] {
  const needed = nodesNeeded(graph, outputs);
  const read = new Set([...[...needed].flatMap((node) => reads(node, policy)), ...outputs]);
  const counterpart = (v: Value): Value => {
    const known = map.get(v);
    if (known !== undefined) return known;
    if (outer !== undefined && !graph.owns(v)) return outer(v);
    const made = leaf(copy, v);
    map.set(v, made);
    return made;
  };
  for (const node of graph.nodes) {
    if (!needed.has(node)) continue;
    const inputs = inputsRead(node, policy).map((v) => v && counterpart(v));
    const isRead = (i: number) => read.has(node.outputs[i]);
    const { attributes } = node;
    const written = copy.scope(
      node.name,
      () => lowered(node.op, { b: copy, inputs, attributes, policy, isRead }),
    );
    const made = written === "kernel" ? adopted(node, inputs) : written;
    for (const [i, v] of [made].flat().entries()) {
      const original = node.outputs[i];
      if (original !== undefined && v !== undefined) map.set(original, v);
    }
  }
  return outputs.map(counterpart);

  function adopted(node: Node, inputs: readonly (Value | undefined)[]): readonly Value[] {
    const bodies = Object.fromEntries(
      Object.entries(node.bodies).map(([name, body]) => [
        name,
        lowerBody(copy, body, { outer: counterpart, policy }),
      ]),
    );
    return copy.adopt(node, { inputs, bodies });
  }
}

/** A copy of a graph inside a node, for a node of `copy`; `outer` gives counterparts of what it reads from outside. */
export function lowerBody(
  copy: Builder,
  body: Body,
  { outer, policy }: { readonly outer: (v: Value) => Value; readonly policy: Policy },
): Body {
  const graph = copy.inside();
  const map = new Map(body.graph.inputs.map((v) => [v, graph.bodyInput(v.name, v)]));
  return { graph, outputs: lowerInto(graph, body, { map, outer, policy }) };
}

/** What a node, and the graphs inside it, are lowered from. */
function reads(node: Node, policy: Policy): readonly (Value | undefined)[] {
  return [
    ...inputsRead(node, policy),
    ...Object.values(node.bodies).flatMap(({ graph, outputs }) => [
      ...[...nodesNeeded(graph, outputs)].flatMap((inner) => reads(inner, policy)),
      ...outputs,
    ]),
  ];
}

/** A copy of a constant or a weight. */
export function leaf(copy: Builder, v: Value): Value {
  const { source } = v;
  if (source.kind === "constant") return copy.constant(source.tensor, v.name);
  if (source.kind === "weight") return copy.weight(v.name, v, source.location);
  throw new RangeError(`Value "${v.name}" was not copied`);
}
