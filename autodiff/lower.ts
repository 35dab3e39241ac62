import { attentionProbabilities, mergeHeads, splitHeads } from "./attention.ts";
import { type Attributes, floatOf, intOf, stringOf } from "./attributes.ts";
import { Builder } from "./builder.ts";
import type { Graph, Node, Value } from "./graph.ts";
import type { OpName } from "./infer/mod.ts";
import { dim, swapLast } from "./infer/_types.ts";
import { asChannels, groupNormalize } from "./normalize.ts";

/** Writes an operator in others, its first output at least; `undefined` where the runtime has a kernel for it. */
type Lowering = (
  b: Builder,
  inputs: readonly (Value | undefined)[],
  attributes: Attributes,
  /** True where something reads an output after the first. */
  readsMore: boolean,
) => Value | readonly Value[] | undefined;

// ONNX Runtime's own operators have float32 kernels only. Gradients are checked in float64.
const inFloat64 = (lowering: Lowering): Lowering => (b, inputs, ...rest) =>
  inputs[0]?.dtype === "float64" ? lowering(b, inputs, ...rest) : undefined;

/** Operators written out in others before a model is serialized. */
const LOWERINGS: Partial<Record<OpName, Lowering>> = {
  StopGradient: (b, [x]) => x && b.identity(x),
  StraightThrough: (b, [, forward]) => forward && b.identity(forward),
  // Not as x · sigmoid(αx), which ONNX Runtime would fuse into the operator it has no kernel for.
  QuickGelu: inFloat64((b, [x], a) =>
    x && b.div(x, b.add(b.exp(b.mul(x, -floatOf(a, "alpha", 1.702))), 1))
  ),
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
    return [b.add(scaled, asChannels(b, bias, x)), normalized, invStd];
  },
  Attention: (b, [q, k, v, mask], a, readsProbabilities) => {
    if (q === undefined || k === undefined || v === undefined) return undefined;
    if (readsProbabilities || q.dtype === "float64") {
      const split = (x: Value) => splitHeads(b, x, intOf(a, "num_heads", 1));
      const scale = floatOf(a, "scale", 1);
      const p = attentionProbabilities(b, split(q), { k: split(k), scale, mask });
      return [mergeHeads(b, b.matMul(p, split(v))), p];
    }
    if (mask === undefined) return undefined;
    // The fused kernel broadcasts a mask over batch and heads only.
    const lead = Array.from({ length: 4 - mask.shape.length }, () => 1);
    const [batch = 1, heads = 1] = [...lead, ...mask.shape];
    const full = b.expand(b.reshape(mask, [...lead, ...mask.shape]), [
      batch,
      heads,
      dim(q.shape, 1),
      dim(k.shape, 1),
    ]);
    return full === mask ? undefined : b.call("Attention", [q, k, v, full], a);
  },
};

/**
 * A copy of the part of `graph` that `outputs` need, in operators the runtime has. Returns it with the outputs'
 * counterparts. All declared inputs are kept, and nodes keep their names.
 */
export function lower(
  graph: Graph,
  outputs: readonly Value[],
): { readonly graph: Builder; readonly outputs: readonly Value[] } {
  const needed = nodesNeeded(graph, outputs);
  const read = new Set([...[...needed].flatMap((node) => node.inputs), ...outputs]);
  const copy = new Builder();
  const map = new Map<Value, Value>();
  for (const v of graph.inputs) map.set(v, copy.input(v.name, v));
  const counterpart = (v: Value): Value => {
    const made = map.get(v) ?? leaf(copy, v);
    map.set(v, made);
    return made;
  };
  for (const node of graph.nodes) {
    if (!needed.has(node)) continue;
    const inputs = node.inputs.map((v) => v && counterpart(v));
    const readsMore = node.outputs.slice(1).some((v) => read.has(v));
    const lowered = copy.scope(
      node.name,
      () => LOWERINGS[node.op]?.(copy, inputs, node.attributes, readsMore),
    );
    for (const [i, v] of [lowered ?? copy.adopt(node, inputs)].flat().entries()) {
      const original = node.outputs[i];
      if (original !== undefined) map.set(original, v);
    }
  }
  return { graph: copy, outputs: outputs.map(counterpart) };
}

function leaf(copy: Builder, v: Value): Value {
  const { source } = v;
  if (source.kind === "constant") return copy.constant(source.tensor, v.name);
  if (source.kind === "weight") return copy.weight(v.name, v, source.location);
  throw new RangeError(`Value "${v.name}" was not copied`);
}

/** The nodes that `outputs` depend on. */
export function nodesNeeded(graph: Graph, outputs: readonly Value[]): ReadonlySet<Node> {
  const needed = new Set<Node>();
  const mark = (v: Value | undefined) => {
    if (v?.source.kind === "node") needed.add(v.source.node);
  };
  outputs.forEach(mark);
  for (const node of graph.nodes.toReversed()) if (needed.has(node)) node.inputs.forEach(mark);
  return needed;
}
