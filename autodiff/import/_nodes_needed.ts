import type { GraphProto, NodeProto } from "onnx-buf";

/** Nodes that outputs depend on, in order, and the names they read. */
export function nodesNeeded(nodes: readonly NodeProto[], outputs: readonly string[]) {
  const names = new Set(outputs);
  const needed: NodeProto[] = [];
  for (const node of nodes.toReversed()) {
    if (!node.output.some((name) => name !== "" && names.has(name))) continue;
    needed.push(node);
    for (const name of readBy(node)) names.add(name);
  }
  return { names, nodes: needed.reverse() };
}

/** Graphs inside a node. */
function bodiesOf({ attribute }: NodeProto): readonly GraphProto[] {
  return attribute.flatMap(({ g, graphs }) => g === undefined ? graphs : [g, ...graphs]);
}

/** Names that a node reads, and that graphs inside it read from around it: with some of their own, which does no harm. */
function* readBy(node: NodeProto): Generator<string> {
  yield* node.input;
  for (const body of bodiesOf(node)) {
    for (const { name } of body.output) yield name;
    for (const inner of body.node) yield* readBy(inner);
  }
}
