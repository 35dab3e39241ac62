import { type Attributes, float, floatOf, int, intOf, stringOf } from "./attributes.ts";
import { Builder } from "./builder.ts";
import type { Graph, Node, Value } from "./graph.ts";
import type { OpName } from "./infer/mod.ts";
import { sizeOf } from "./tensor.ts";

type Lowering = (b: Builder, inputs: readonly Value[], attributes: Attributes) => Value | undefined;

const plain = new Set(["float64", "bfloat16"]);

/**
 * Operators written out in others before a model is serialized. A rule that returns `undefined` leaves the node as
 * it is: the runtime has a kernel for it.
 */
const LOWERINGS: Partial<Record<OpName, Lowering>> = {
  StopGradient: (b, [x]) => x && b.identity(x),
  StraightThrough: (b, [, forward]) => forward && b.identity(forward),
  // ONNX Runtime's CPU kernels of these take float32 only; float64 is what gradients are checked in.
  QuickGelu: (b, [x], a) =>
    x && plain.has(x.dtype) ? b.mul(x, b.sigmoid(b.mul(x, floatOf(a, "alpha", 1.702)))) : undefined,
  Gelu: (b, [x], a) => {
    if (x === undefined || !plain.has(x.dtype) || stringOf(a, "approximate", "none") === "none") {
      return undefined;
    }
    const inner = b.mul(b.add(x, b.mul(b.mul(b.mul(x, x), x), 0.044715)), Math.sqrt(2 / Math.PI));
    return b.mul(b.mul(x, 0.5), b.add(b.tanh(inner), 1));
  },
  FusedMatMul: (b, [x, y], a) => {
    if (x === undefined || y === undefined || !plain.has(x.dtype)) return undefined;
    const swap = (v: Value, on: number) => on === 1 ? b.transpose(v, swapLast(v.shape.length)) : v;
    const product = b.matMul(swap(x, intOf(a, "transA", 0)), swap(y, intOf(a, "transB", 0)));
    const alpha = floatOf(a, "alpha", 1);
    return alpha === 1 ? product : b.mul(product, alpha);
  },
  GroupNormalization: (b, [x, scale, bias], a) =>
    x && scale && bias && affine(b, groupNormalize(b, x, a)[0], scale, bias),
  Attention: lowerAttention,
};

const swapLast = (rank: number): readonly number[] => [
  ...Array.from({ length: rank - 2 }, (_, i) => i),
  rank - 1,
  rank - 2,
];

function affine(b: Builder, x: Value, scale: Value, bias: Value): Value {
  const shape = [1, scale.shape[0] ?? 1, ...x.shape.slice(2).map(() => 1)];
  return b.add(b.mul(x, b.reshape(scale, shape)), b.reshape(bias, shape));
}

/**
 * Group normalization without scale and bias, of x [B, C, ...]: one LayerNormalization over rows of
 * [B·groups, C/groups·...]. Returns the normalized x and each row's inverse standard deviation [B·groups, 1].
 */
export function groupNormalize(
  b: Builder,
  x: Value,
  attributes: Attributes,
): readonly [Value, Value] {
  const rows = (x.shape[0] ?? 1) * intOf(attributes, "num_groups", 1);
  const width = sizeOf(x.shape) / rows;
  const ones = b.expand(b.fill(1, { dtype: x.dtype, shape: [1] }), [width]);
  const [y, , invStd] = b.op(
    "LayerNormalization",
    [b.reshape(x, [rows, width]), ones],
    { axis: int(-1), epsilon: float(floatOf(attributes, "epsilon", 1e-5)) },
    3,
  );
  if (y === undefined || invStd === undefined) {
    throw new RangeError("LayerNormalization has 3 outputs");
  }
  return [b.reshape(y, x.shape), b.cast(invStd, x.dtype)];
}

function lowerAttention(b: Builder, inputs: readonly Value[], a: Attributes): Value | undefined {
  const [q, k, v, mask] = inputs;
  if (q === undefined || k === undefined || v === undefined) return undefined;
  const heads = intOf(a, "num_heads", 1);
  const scale = floatOf(a, "scale", 1);
  if (plain.has(q.dtype)) {
    return b.attention(q, k, v, { heads, scale, ...(mask === undefined ? {} : { mask }) });
  }
  if (mask === undefined) return undefined;
  // The fused kernel broadcasts a mask over batch and heads only.
  const [queries = 1, keys = 1] = [q.shape[1], k.shape[1]];
  const lead = mask.shape.length < 4 ? Array.from({ length: 4 - mask.shape.length }, () => 1) : [];
  const wide = [...lead, ...mask.shape].map((d, i) => i === 2 ? queries : i === 3 ? keys : d);
  const full = b.expand(b.reshape(mask, [...lead, ...mask.shape]), wide);
  return full === mask ? undefined : b.call("Attention", [q, k, v, full], a);
}

/**
 * A copy of the part of `graph` that `outputs` need, in operators the runtime has. Returns it with the outputs'
 * counterparts. All declared inputs are kept.
 */
export function lower(
  graph: Graph,
  outputs: readonly Value[],
): { readonly graph: Builder; readonly outputs: readonly Value[] } {
  const needed = nodesNeeded(graph, outputs);
  const copy = new Builder({ differentiable: true, attentionMemory: Infinity });
  const map = new Map<Value, Value>();
  for (const v of graph.inputs) map.set(v, copy.input(v.name, v));
  const leaf = (v: Value): Value => {
    const known = map.get(v);
    if (known !== undefined) return known;
    const s = v.source;
    if (s.kind === "constant") return remember(v, copy.constant(s.tensor, v.name));
    if (s.kind === "weight") return remember(v, copy.weight(v.name, v, s.location));
    throw new RangeError(`Value "${v.name}" was not copied`);
  };
  const remember = (v: Value, made: Value): Value => (map.set(v, made), made);
  for (const node of graph.nodes) {
    if (!needed.has(node)) continue;
    const cut = node.name.lastIndexOf("/");
    copy.scope(cut < 0 ? "" : node.name.slice(0, cut), () => {
      const inputs = node.inputs.map((v) => v && leaf(v));
      const given = inputs.flatMap((v) => v === undefined ? [] : [v]);
      const lowered = LOWERINGS[node.op]?.(copy, given, node.attributes);
      const made = lowered === undefined
        ? copy.op(node.op, inputs, node.attributes, node.outputs.length)
        : [lowered];
      for (const [i, v] of node.outputs.entries()) {
        const m = made[i];
        if (m !== undefined) map.set(v, m);
      }
    });
  }
  return { graph: copy, outputs: outputs.map(leaf) };
}

/** The nodes that `outputs` depend on. */
export function nodesNeeded(graph: Graph, outputs: readonly Value[]): ReadonlySet<Node> {
  const needed = new Set<Node>();
  const mark = (v: Value | undefined) => {
    if (v?.source.kind === "node") needed.add(v.source.node);
  };
  outputs.forEach(mark);
  for (let i = graph.nodes.length - 1; i >= 0; i--) {
    const node = graph.nodes[i];
    if (node !== undefined && needed.has(node)) node.inputs.forEach(mark);
  }
  return needed;
}
