import { intOf } from "./attributes.ts";
import { byteLengthOf, type Graph, type Node, type Value } from "./graph.ts";
import type { OpName } from "./infer/mod.ts";
import { dim } from "./infer/_types.ts";
import { lower, nodesNeeded } from "./lower.ts";
import { sizeOf } from "./tensor.ts";

/** What running a graph takes, counted from its shapes. */
export interface GraphCost {
  /** Bytes of the weights that operators read where they lie. */
  readonly weightBytes: number;
  /** Bytes of what is computed from weights and constants alone, once, when the graph is loaded. */
  readonly foldedBytes: number;
  /** Most bytes while it is loaded: weights, and every step of that computation. */
  readonly loadBytes: number;
  /** Most bytes of values alive at once, each from the operator that makes it to the last that reads it; fed ones too. */
  readonly activationBytes: number;
  /** Floating-point operations of products and convolutions, two for each multiplication and addition. */
  readonly productFlops: number;
  /** Bytes that all operators read and write. */
  readonly trafficBytes: number;
}

/** Operators whose result is their first input under another shape: nothing is copied. */
const VIEWS: ReadonlySet<OpName> = new Set<OpName>([
  "Flatten",
  "Identity",
  "Reshape",
  "Squeeze",
  "Unsqueeze",
]);

/** Operators that the runtime lets write over an input that nobody reads any more. */
const IN_PLACE: ReadonlySet<OpName> = new Set<OpName>([
  ...[
    "Abs",
    "Add",
    "Cast",
    "Clip",
    "Div",
    "Erf",
    "Exp",
    "Mul",
    "Neg",
    "Pow",
    "Reciprocal",
  ] as const,
  ...["Relu", "Sigmoid", "Softmax", "Sqrt", "Sub", "Sum", "Tanh"] as const,
]);

/** Floating-point operations of a node that multiplies matrices, in this or another form. */
const FLOPS: Partial<Record<OpName, (node: Node) => number>> = {
  MatMul: ({ inputs, outputs }) => 2 * sized(outputs[0]) * dim(inputs[0]?.shape ?? [1], -1),
  FusedMatMul: (node) => 2 * sized(node.outputs[0]) * innerOf(node),
  Gemm: (node) => 2 * sized(node.outputs[0]) * innerOf(node),
  Conv: ({ inputs, outputs }) => 2 * sized(outputs[0]) * sizeOf(inputs[1]?.shape.slice(1) ?? []),
  ConvTranspose: ({ inputs }) => 2 * sized(inputs[0]) * sizeOf(inputs[1]?.shape.slice(1) ?? []),
  // q kᵀ and p v.
  Attention: ({ inputs: [q, k] }) => 4 * sized(q) * dim(k?.shape ?? [1, 1, 1], 1),
};

function sized(v: Value | undefined): number {
  return v === undefined ? 0 : sizeOf(v.shape);
}

function innerOf({ inputs, attributes }: Node): number {
  return dim(inputs[0]?.shape ?? [1, 1], intOf(attributes, "transA", 0) === 1 ? -2 : -1);
}

/** Counts what the part of `graph` that `outputs` need takes to run, lowered as `serialize` writes it. */
export function graphCost(graph: Graph, outputs: readonly Value[]): GraphCost {
  const low = lower(graph, outputs);
  const needed = nodesNeeded(low.graph, low.outputs);
  const nodes = low.graph.nodes.filter((node) => needed.has(node));
  const folded = new Set<Node>();
  const isConstant = (v: Value | undefined) =>
    v === undefined ||
    (v.source.kind === "node" ? folded.has(v.source.node) : v.source.kind !== "input");
  for (const node of nodes) if (node.inputs.every(isConstant)) folded.add(node);
  const running = nodes.filter((node) => !folded.has(node));

  const root = (v: Value): Value => {
    const { source } = v;
    const first = source.kind === "node" && VIEWS.has(source.node.op) && source.node.inputs[0];
    return first ? root(first) : v;
  };
  const lastRead = new Map<Value, number>();
  const constants = new Set<Value>();
  for (const [i, { inputs }] of running.entries()) {
    for (const v of inputs) {
      if (v === undefined) continue;
      if (isConstant(v)) constants.add(root(v));
      else lastRead.set(root(v), i);
    }
  }
  for (const v of low.outputs) lastRead.set(root(v), Infinity);

  let alive = low.graph.inputs.reduce((sum, v) => sum + byteLengthOf(v), 0);
  let [activationBytes, productFlops, trafficBytes] = [alive, 0, 0];
  const isOver = (v: Value, i: number) => v.source.kind === "node" && lastRead.get(v) === i;
  for (const [i, node] of running.entries()) {
    if (VIEWS.has(node.op)) continue;
    const read = new Set(node.inputs.flatMap((v) => v && !isConstant(v) ? [root(v)] : []));
    const made = node.outputs.filter((v) => lastRead.has(v));
    const size = byteLengthOf(made[0] ?? { dtype: "uint8", shape: [0] });
    const over = [...read].find((v) => isOver(v, i) && byteLengthOf(v) === size);
    const reused = IN_PLACE.has(node.op) ? over : undefined;
    for (const v of made) alive += byteLengthOf(v);
    if (reused !== undefined) alive -= size;
    activationBytes = Math.max(activationBytes, alive);
    for (const v of read) if (v !== reused && isOver(v, i)) alive -= byteLengthOf(v);
    productFlops += FLOPS[node.op]?.(node) ?? 0;
    for (const v of [...node.inputs, ...made]) if (v !== undefined) trafficBytes += byteLengthOf(v);
  }
  const total = (values: Iterable<Value | undefined>) =>
    [...new Set(values)].reduce((sum, v) => sum + (v === undefined ? 0 : byteLengthOf(v)), 0);
  const steps = [...folded].filter(({ op }) => !VIEWS.has(op));
  const isWeight = (v: Value | undefined) => v?.source.kind === "weight";
  const read = [...constants];
  return {
    weightBytes: total(read.filter(isWeight)),
    foldedBytes: total(read.filter((v) => v.source.kind === "node")),
    loadBytes: total([
      ...read.filter(isWeight),
      ...steps.flatMap(({ inputs, outputs }) => [...inputs.filter(isWeight), ...outputs]),
    ]),
    activationBytes,
    productFlops,
    trafficBytes,
  };
}
