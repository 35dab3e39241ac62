import type { Graph, Node, Value } from "./graph.ts";

/** What nodes with graphs inside read, which is asked often. Such a graph is whole before its node is made. */
const readsWithInside = new WeakMap<Node, readonly (Value | undefined)[]>();

/** What a node reads: its inputs, and what the graphs inside it read. */
export function readsOf(node: Node): readonly (Value | undefined)[] {
  const bodies = Object.values(node.bodies);
  if (bodies.length === 0) return node.inputs;
  const known = readsWithInside.get(node);
  if (known !== undefined) return known;
  const reads = [
    ...node.inputs,
    ...bodies.flatMap(({ graph, outputs }) => [
      ...[...nodesNeeded(graph, outputs)].flatMap(readsOf),
      ...outputs,
    ]),
  ];
  readsWithInside.set(node, reads);
  return reads;
}

/** The nodes that `outputs` depend on, of this graph alone. */
export function nodesNeeded(graph: Graph, outputs: readonly Value[]): ReadonlySet<Node> {
  const marked = new Set<Node>();
  const mark = (v: Value | undefined) => {
    if (v?.source.kind === "node") marked.add(v.source.node);
  };
  outputs.forEach(mark);
  for (const node of graph.nodes.toReversed()) if (marked.has(node)) readsOf(node).forEach(mark);
  return new Set(graph.nodes.filter((node) => marked.has(node)));
}
