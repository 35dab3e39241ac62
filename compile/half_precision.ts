import { attributesOf, dim, type OpName } from "../autodiff/infer/mod.ts";
import {
  Builder,
  castNumber,
  constantOf,
  type DType,
  type Node,
  type Value,
} from "../autodiff/mod.ts";
import { leaf, lowerBody, type Lowered } from "./lower.ts";
import { PLAIN_POLICY } from "./policy.ts";

/** Products, computed in float16: the runtime adds them up in float32. */
const HALF: ReadonlySet<OpName> = new Set<OpName>([
  "Attention",
  "Conv",
  "ConvTranspose",
  "FusedMatMul",
  "Gemm",
  "MatMul",
]);

/**
 * Operators computed in float16 where something they read is there in float16 already: they move values, combine a few,
 * or are bounded. The last three look at many, and the runtime's kernels do so in float32 whatever they read and write.
 * What is float32 beside it is mostly a statistic of rows, small and soon cast.
 */
const FOLLOW: ReadonlySet<OpName> = new Set<OpName>([
  ...["Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Pad"] as const,
  ...["Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"] as const,
  ...["Add", "Mul", "Neg", "Sub", "Where"] as const,
  ...["Erf", "Gelu", "QuickGelu", "Relu", "Sigmoid", "Tanh"] as const,
  ...["LayerNormalization", "ReduceMean", "Softmax"] as const,
]);

/**
 * A copy of a graph, lowered from float32, that computes products and what passes between them in float16, all else in
 * float32, as PyTorch's autocast does. Inputs and outputs keep their dtypes. A value is cast once at most, and a weight
 * that lies in float16 is read as it lies.
 */
export function inHalfPrecision({ graph, outputs }: Lowered): Lowered {
  const copy = new Builder();
  /** Counterparts, in the dtype they are computed in. */
  const made = new Map(graph.inputs.map((v) => [v, copy.input(v.name, v)]));
  /** Those in another one, by name and dtype. */
  const casts = new Map<string, Value>();
  /** What is computed from constants alone, or from weights and constants. */
  const origins = new Map<Value, "constants" | "weights">();
  const originOf = (v: Value) =>
    v.source.kind === "constant"
      ? "constants"
      : v.source.kind === "weight"
      ? "weights"
      : origins.get(v);
  const counterpart = (v: Value): Value => {
    const known = made.get(v) ?? leaf(copy, v);
    made.set(v, known);
    return known;
  };
  const as = (v: Value, dtype: DType): Value => {
    const own = counterpart(v);
    if (own.dtype === dtype) return own;
    const key = `${v.name}:${dtype}`;
    const tensor = constantOf(v);
    const known = casts.get(key) ??
      (tensor?.dtype === "float32"
        ? copy.constant(castNumber(tensor.data, { dtype, shape: tensor.shape }), v.name)
        : copy.scope(v.name, () => copy.cast(own, dtype)));
    casts.set(key, known);
    return known;
  };
  const isHalf = (node: Node, given: readonly Value[]): boolean => {
    const read = given.filter((v) => v.dtype === "float32");
    if (!read.every(isExact) || isSum(node)) return false;
    if (HALF.has(node.op)) return true;
    if (!FOLLOW.has(node.op) || !isNearest(node)) return false;
    const computed = read.filter((v) => originOf(v) === undefined);
    return computed.length > 0
      ? computed.some((v) => counterpart(v).dtype === "float16")
      : read.some((v) => originOf(v) === "weights");
  };
  for (const node of graph.nodes) {
    const given = node.inputs.filter((v) => v !== undefined);
    if (given.every((v) => originOf(v) !== undefined)) {
      const origin = given.some((v) => originOf(v) === "weights") ? "weights" : "constants";
      for (const v of node.outputs) origins.set(v, origin);
    }
    const [x] = given;
    if (x !== undefined && isWidening(node)) {
      for (const v of node.outputs) made.set(v, counterpart(x));
      continue;
    }
    const dtype = isHalf(node, given) ? "float16" : "float32";
    const inputs = node.inputs.map((v) => v && as(v, v.dtype === "float32" ? dtype : v.dtype));
    const bodies = Object.fromEntries(
      Object.entries(node.bodies).map(([name, body]) => [
        name,
        lowerBody(copy, body, { outer: (v) => as(v, v.dtype), policy: PLAIN_POLICY }),
      ]),
    );
    for (const [i, v] of copy.adopt(node, { inputs, bodies }).entries()) {
      const original = node.outputs[i];
      if (original !== undefined) made.set(original, v);
    }
  }
  return { graph: copy, outputs: outputs.map((v) => as(v, v.dtype)) };
}

/** A Cast from float16 or bfloat16 to float32, which changes no value. */
function isWidening({ op, inputs: [x], outputs: [y] }: Node): boolean {
  return op === "Cast" && (x?.dtype === "float16" || x?.dtype === "bfloat16") &&
    y?.dtype === "float32";
}

/** The largest and the smallest positive number that float16 holds with all of its digits. */
const [LARGEST, SMALLEST] = [65504, 2 ** -14];

/** True unless it is a constant that float16 does not hold to its own precision. */
function isExact(v: Value): boolean {
  const tensor = constantOf(v);
  if (tensor?.dtype !== "float32") return true;
  return tensor.data.every((n) => {
    const size = Math.abs(n);
    return !Number.isFinite(n) || size === 0 || (size >= SMALLEST && size <= LARGEST);
  });
}

/**
 * True for products that are a sum over all positions: a gradient by a matrix of parameters, which `gradient` writes as
 * a Gemm with its first operand transposed, and a sum of products of two rows. Such a sum may be too large for float16.
 */
function isSum({ op, attributes, outputs: [y] }: Node): boolean {
  if (op === "Gemm") return attributesOf("Gemm", attributes).transA;
  return op === "FusedMatMul" && y !== undefined && dim(y.shape, -1) * dim(y.shape, -2) === 1;
}

/** False for a Resize that interpolates, or reads scales, which are float32 always. */
function isNearest({ op, attributes, inputs: [, roi, scales] }: Node): boolean {
  return op !== "Resize" ||
    (attributesOf("Resize", attributes).mode === "nearest" && roi === undefined &&
      scales === undefined);
}
