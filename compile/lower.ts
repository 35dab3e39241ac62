import { type OpName, swapLast } from "../autodiff/infer/mod.ts";
import {
  asChannels,
  attentionInBlocks,
  attentionProbabilities,
  type Attributes,
  type Body,
  Builder,
  float,
  floatOf,
  type Graph,
  groupNormalize,
  intOf,
  isSilu,
  mergeHeads,
  nodesNeeded,
  readsOf,
  splitHeads,
  stringOf,
  type Value,
} from "../autodiff/mod.ts";
import { winogradConv } from "./winograd.ts";

/** Writes an operator in others, its first output at least; `undefined` where the runtime has a kernel for it. */
type Lowering = (
  b: Builder,
  inputs: readonly (Value | undefined)[],
  attributes: Attributes,
  /** True where something reads output `i`. */
  isRead: (i: number) => boolean,
) => Value | readonly (Value | undefined)[] | undefined;

// ONNX Runtime's own operators have float32 kernels only. Gradients are checked in float64.
const inFloat64 = (lowering: Lowering): Lowering => (b, inputs, ...rest) =>
  inputs[0]?.dtype === "float64" ? lowering(b, inputs, ...rest) : undefined;

function quickGelu(b: Builder, x: Value, alpha: number): Value {
  return x.dtype === "float64"
    // Not as x · sigmoid(αx), which ONNX Runtime would fuse into the operator it has no kernel for.
    ? b.div(x, b.add(b.exp(b.mul(x, -alpha)), 1))
    : b.call("QuickGelu", [x], { alpha: float(alpha) });
}

/** Operators written out in others before a model is serialized. */
const LOWERINGS: Partial<Record<OpName, Lowering>> = {
  StopGradient: (b, [x]) => x && b.identity(x),
  StraightThrough: (b, [, forward]) => forward && b.identity(forward),
  QuickGelu: inFloat64((b, [x], a) => x && quickGelu(b, x, floatOf(a, "alpha", 1.702))),
  Gelu: inFloat64((b, [x], a) => {
    if (x === undefined || stringOf(a, "approximate", "none") === "none") return undefined;
    const inner = b.mul(b.add(x, b.mul(b.pow(x, 3), 0.044715)), Math.sqrt(2 / Math.PI));
    return b.mul(b.mul(x, 0.5), b.add(b.tanh(inner), 1));
  }),
  FusedMatMul: inFloat64((b, [x, y], a) => {
    if (x === undefined || y === undefined) return undefined;
    const oriented = (v: Value, flag: string) =>
      intOf(a, flag, 0) === 1 ? b.transpose(v, swapLast(v.shape.map((_, i) => i))) : v;
    const product = b.matMul(oriented(x, "transA"), oriented(y, "transB"));
    return b.mul(product, floatOf(a, "alpha", 1));
  }),
  GroupNormalization: (b, [x, scale, bias], a) => {
    if (x === undefined || scale === undefined || bias === undefined) return undefined;
    const { normalized, invStd } = groupNormalize(b, x, a);
    const scaled = b.mul(b.reshape(normalized, x.shape), asChannels(b, scale, x));
    const shifted = b.add(scaled, asChannels(b, bias, x));
    return [isSilu(a) ? quickGelu(b, shifted, 1) : shifted, normalized, invStd];
  },
  Conv: winogradConv,
  Attention: (b, [q, k, v, mask], a, isRead) => {
    if (q === undefined || k === undefined || v === undefined) return undefined;
    const [heads, scale] = [intOf(a, "num_heads", 1), floatOf(a, "scale", 1)];
    if (isRead(2)) {
      const { out, logSumExp } = attentionInBlocks(b, { q, k, v }, { heads, scale });
      return [out, undefined, logSumExp];
    }
    // Masks are of short texts, where being written out costs nothing, and the fused kernels are not all right: see
    // docs/decisions.md.
    if (isRead(1) || q.dtype === "float64" || mask !== undefined) {
      const split = (x: Value) => splitHeads(b, x, heads);
      const p = attentionProbabilities(b, split(q), { k: split(k), scale, mask });
      return [mergeHeads(b, b.matMul(p, split(v))), p];
    }
    return undefined;
  },
};

/** Part of a graph as it is given to the runtime. */
export interface Lowered {
  readonly graph: Builder;
  readonly outputs: readonly Value[];
}

/**
 * A copy of the part of `graph` that `outputs` need, in operators the runtime has. Returns it with the outputs'
 * counterparts. All declared inputs are kept, and nodes keep their names.
 */
export function lower(graph: Graph, outputs: readonly Value[]): Lowered {
  const copy = new Builder(graph instanceof Builder ? graph : {});
  const map = new Map(graph.inputs.map((v) => [v, copy.input(v.name, v)]));
  return { graph: copy, outputs: lowerInto(copy, { graph, outputs }, { map }) };
}

/** Lowers one graph into an empty one; `map` holds counterparts, those of its inputs at least. */
function lowerInto(
  copy: Builder,
  { graph, outputs }: Body,
  { map, outer }: {
    readonly map: Map<Value, Value>;
    /** Counterparts of values of the graphs around it. */
    readonly outer?: (v: Value) => Value;
  },
): readonly Value[] {
  const needed = nodesNeeded(graph, outputs);
  const read = new Set([...[...needed].flatMap(readsOf), ...outputs]);
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
    const inputs = node.inputs.map((v) => v && counterpart(v));
    const isRead = (i: number) => read.has(node.outputs[i]);
    const lowered = copy.scope(
      node.name,
      () => LOWERINGS[node.op]?.(copy, inputs, node.attributes, isRead),
    );
    const bodies = Object.fromEntries(
      Object.entries(node.bodies).map(([name, body]) => [name, lowerBody(copy, body, counterpart)]),
    );
    for (const [i, v] of [lowered ?? copy.adopt(node, { inputs, bodies })].flat().entries()) {
      const original = node.outputs[i];
      if (original !== undefined && v !== undefined) map.set(original, v);
    }
  }
  return outputs.map(counterpart);
}

/** A copy of a graph inside a node, for a node of `copy`; `outer` gives counterparts of what it reads from outside. */
export function lowerBody(copy: Builder, body: Body, outer: (v: Value) => Value): Body {
  const graph = copy.inside();
  const map = new Map(body.graph.inputs.map((v) => [v, graph.bodyInput(v.name, v)]));
  return { graph, outputs: lowerInto(graph, body, { map, outer }) };
}

/** A copy of a constant or a weight. */
export function leaf(copy: Builder, v: Value): Value {
  const { source } = v;
  if (source.kind === "constant") return copy.constant(source.tensor, v.name);
  if (source.kind === "weight") return copy.weight(v.name, v, source.location);
  throw new RangeError(`Value "${v.name}" was not copied`);
}
