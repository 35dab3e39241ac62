import { attributesOf, dim, type OpName } from "../autodiff/infer/mod.ts";
import {
  byteLengthOf,
  type Graph,
  type Node,
  nodesNeeded,
  readsOf,
  sizeOf,
  type Value,
} from "../autodiff/mod.ts";
import { bufferBytes, root, VIEWS } from "./_buffers.ts";
import { hiddenResults } from "./_hidden_sizes.ts";
import type { Lowered } from "./lower.ts";
import { PLAIN_POLICY, type Policy } from "./policy.ts";
import { runnable } from "./runnable.ts";

/** Kinds of products, which run at speeds of their own; "loop": of matrices inside a Scan. */
export const PRODUCT_KINDS = ["matrix", "convolution", "attention", "loop"] as const;
export type ProductKind = typeof PRODUCT_KINDS[number];

/** What running a graph takes, counted from its shapes. */
export interface GraphCost {
  /** Bytes of the weights that operators read where they lie. */
  readonly weightBytes: number;
  /** Bytes of what is computed from weights and constants alone, once, when the graph is loaded. */
  readonly foldedBytes: number;
  /** Most bytes while it is loaded: weights, and every result of that computation. */
  readonly loadBytes: number;
  /** Most bytes at once of the buffers that values are given, and of what operators take beside them; fed values too. */
  readonly activationBytes: number;
  /** Bytes of the largest of those buffers. */
  readonly largestBytes: number;
  /** Bytes of the outputs, of which a caller gets copies. */
  readonly outputBytes: number;
  /** Floating-point operations of products, two for each multiplication and addition. */
  readonly flops: Readonly<Record<ProductKind, number>>;
  /** Bytes that operators read and write, those inside a Scan left out: what they pass on stays in a core's cache. */
  readonly trafficBytes: number;
  /** Operators run, those inside a Scan left out. */
  readonly operators: number;
}

/** Floating-point operations of all kinds of products. */
export function totalFlops({ flops }: Pick<GraphCost, "flops">): number {
  return PRODUCT_KINDS.reduce((sum, kind) => sum + flops[kind], 0);
}

/** Floating-point operations of a node that multiplies matrices, in this or another form. */
const FLOPS: Partial<Record<OpName, (node: Node) => number>> = {
  MatMul: ({ inputs, outputs }) => 2 * sized(outputs[0]) * dim(inputs[0]?.shape ?? [1], -1),
  FusedMatMul: (node) => 2 * sized(node.outputs[0]) * innerOf("FusedMatMul", node),
  Gemm: (node) => 2 * sized(node.outputs[0]) * innerOf("Gemm", node),
  Conv: ({ inputs, outputs }) => 2 * sized(outputs[0]) * sizeOf(inputs[1]?.shape.slice(1) ?? []),
  ConvTranspose: ({ inputs }) => 2 * sized(inputs[0]) * sizeOf(inputs[1]?.shape.slice(1) ?? []),
  // q kᵀ and p v.
  Attention: ({ inputs: [q, k] }) => 4 * sized(q) * dim(k?.shape ?? [1, 1, 1], 1),
};

/** Kinds of the operators in `FLOPS` that are not products of matrices by name. */
const KINDS: Partial<Record<OpName, ProductKind>> = {
  Conv: "convolution",
  ConvTranspose: "convolution",
  Attention: "attention",
};

/** Bytes that a node's kernel takes while it runs: columns of few positions, heads one after the other. */
const WORKSPACE: Partial<Record<OpName, (node: Node) => number>> = {
  Conv: ({ inputs: [, w], outputs: [y] }) => {
    const positions = sizeOf(y?.shape.slice(2) ?? []);
    // With fewer filters, columns are made as they are needed.
    return positions < dim(w?.shape ?? [1], 0)
      ? 4 * positions * sizeOf(w?.shape.slice(1) ?? [])
      : 0;
  },
  ConvTranspose: ({ inputs: [x, w] }) =>
    4 * sizeOf(x?.shape.slice(2) ?? []) * sizeOf(w?.shape.slice(1) ?? []),
  Attention: ({ inputs: [q, k, v] }) => total([q, k, v]),
};

function sized(v: Value | undefined): number {
  return v === undefined ? 0 : sizeOf(v.shape);
}

function innerOf(op: "FusedMatMul" | "Gemm", { inputs, attributes }: Node): number {
  return dim(inputs[0]?.shape ?? [1, 1], attributesOf(op, attributes).transA ? -2 : -1);
}

/** How often a node runs the graphs inside it: a Scan once for each of its rows. */
function timesOf({ op, inputs, attributes }: Node): number {
  if (op !== "Scan") return 1;
  const { num_scan_inputs } = attributesOf("Scan", attributes);
  return dim(inputs.at(-num_scan_inputs)?.shape ?? [1], 0);
}

/**
 * Counts what the part of `graph` that `outputs` need takes to run, as a policy writes it. Unless `fold` (default true),
 * what depends on weights alone is computed in every run, like everything else. `hideSizes` as it is serialized.
 */
export function graphCost(
  graph: Graph,
  outputs: readonly Value[],
  { fold = true, hideSizes = false, policy = PLAIN_POLICY }: {
    readonly fold?: boolean;
    readonly hideSizes?: boolean;
    readonly policy?: Policy;
  } = {},
): GraphCost {
  const { told, hidden } = costs(runnable(graph, outputs, policy), { fold, mayHide: hideSizes });
  return hideSizes ? hidden : told;
}

/** Costs of a graph as it is run, with its sizes told to the runtime and, where that may be, with them hidden. */
export function costs(
  low: Lowered,
  { fold, mayHide }: { readonly fold: boolean; readonly mayHide: boolean },
): { readonly told: GraphCost; readonly hidden: GraphCost } {
  const nodes = [...nodesNeeded(low.graph, low.outputs)];
  const folded = new Set<Node>();
  const isConstant = (v: Value | undefined) =>
    v === undefined || v.source.kind === "weight" || v.source.kind === "constant" ||
    (v.source.kind === "node" && folded.has(v.source.node));
  for (const node of nodes) if (fold && readsOf(node).every(isConstant)) folded.add(node);
  const running = nodes.filter((node) => !folded.has(node));
  const { activationBytes, ...counted } = count(running, low.outputs, { mayHide });
  const fed = total(low.graph.inputs);

  const read = running.flatMap(readsOf).flatMap((v) => v && isConstant(v) ? [root(v)] : []);
  const isWeight = (v: Value | undefined) => v?.source.kind === "weight";
  const computed = [...folded].filter(({ op }) => !VIEWS.has(op));
  const same = {
    weightBytes: total(read.filter(isWeight)),
    foldedBytes: total(read.filter((v) => v.source.kind === "node")),
    loadBytes: total([
      ...read.filter(isWeight),
      ...computed.flatMap(({ inputs, outputs }) => [...inputs.filter(isWeight), ...outputs]),
    ]),
    ...counted,
    outputBytes: total(low.outputs),
  };
  return {
    told: { ...same, activationBytes: fed + activationBytes.told },
    hidden: { ...same, activationBytes: fed + activationBytes.hidden },
  };
}

/** Bytes of buffers with sizes told and hidden; the same where they are not to be hidden. */
interface BufferBytes {
  readonly told: number;
  readonly hidden: number;
}

type Running =
  & Pick<GraphCost, "largestBytes" | "flops" | "trafficBytes" | "operators">
  & { readonly activationBytes: BufferBytes };

/** What nodes take one after the other, values from outside them left out. */
function count(
  nodes: readonly Node[],
  outputs: readonly Value[],
  { mayHide, isBody = false, isLoop = false }: {
    readonly mayHide: boolean;
    /** They are inside a node. */
    readonly isBody?: boolean;
    /** They are inside a Scan. */
    readonly isLoop?: boolean;
  },
): Running {
  const read = new Set([...nodes.flatMap(readsOf), ...outputs]);
  const within = { told: nodes.map(() => 0), hidden: nodes.map(() => 0) };
  let [largestBytes, trafficBytes, operators] = [0, 0, 0];
  const flops = { matrix: 0, convolution: 0, attention: 0, loop: 0 };
  for (const [i, node] of nodes.entries()) {
    if (VIEWS.has(node.op)) continue;
    const inside = Object.values(node.bodies).map((body) =>
      count([...nodesNeeded(body.graph, body.outputs)], body.outputs, {
        mayHide,
        isBody: true,
        isLoop: isLoop || node.op === "Scan",
      })
    );
    const beside = WORKSPACE[node.op]?.(node) ?? 0;
    for (const way of ["told", "hidden"] as const) {
      within[way][i] = beside +
        inside.reduce((most, body) => Math.max(most, body.activationBytes[way]), 0);
    }
    operators++;
    flops[KINDS[node.op] ?? (isLoop ? "loop" : "matrix")] += FLOPS[node.op]?.(node) ?? 0;
    const made = node.outputs.filter((v) => read.has(v));
    largestBytes = Math.max(largestBytes, ...made.map(byteLengthOf));
    trafficBytes += total([...node.inputs, ...made]);
    for (const body of inside) {
      for (const kind of PRODUCT_KINDS) flops[kind] += timesOf(node) * body.flops[kind];
      if (node.op === "Scan") continue;
      trafficBytes += body.trafficBytes;
      operators += body.operators;
    }
  }
  const told = bufferBytes(nodes, { outputs, within: within.told, isHidden: () => false });
  const names = mayHide ? hiddenResults(nodes) : new Set();
  // What a body is fed has shapes that are hidden in it too.
  const isHidden = (v: Value) => names.has(v) || isBody;
  const hidden = mayHide ? bufferBytes(nodes, { outputs, within: within.hidden, isHidden }) : told;
  return { activationBytes: { told, hidden }, largestBytes, flops, trafficBytes, operators };
}

/** Bytes of distinct values. */
function total(values: Iterable<Value | undefined>): number {
  return [...new Set(values)].reduce((sum, v) => sum + (v === undefined ? 0 : byteLengthOf(v)), 0);
}
