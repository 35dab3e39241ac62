import type { AttributeReader } from "../attributes.ts";
import type { Shape } from "../tensor.ts";
import { parseEquation } from "./_einsum.ts";
import { plain, spec } from "./_spec.ts";
import {
  broadcast,
  dim,
  type Infer,
  required,
  requiredFloat,
  sameDType,
  swapLast,
  type,
} from "./_types.ts";

/** Shape of a product of (batches of) matrices. */
function product(left: Shape, right: Shape): Shape {
  if (dim(left, -1) !== dim(right, -2)) {
    throw new Error(`Inner dimensions differ: ${dim(left, -1)} and ${dim(right, -2)}`);
  }
  return [...broadcast(left.slice(0, -2), right.slice(0, -2)), dim(left, -2), dim(right, -1)];
}

const matMul = plain((c) => {
  const [a, b] = [required(c, 0), required(c, 1)];
  sameDType(a, b);
  if (a.shape.length === 0 || b.shape.length === 0) throw new Error("MatMul needs rank 1 or more");
  const [row, column] = [a.shape.length === 1, b.shape.length === 1];
  const full = product(row ? [1, ...a.shape] : a.shape, column ? [...b.shape, 1] : b.shape);
  const last = full.length - 1;
  return [
    type(a.dtype, full.filter((_, i) => !(row && i === last - 1) && !(column && i === last))),
  ];
});

/** How the operands of a product are read, and what it is multiplied by. */
interface Product {
  readonly alpha: number;
  readonly transA: boolean;
  readonly transB: boolean;
}

const productAttributes = (r: AttributeReader): Product => ({
  alpha: r.float("alpha", 1),
  transA: r.flag("transA", false),
  transB: r.flag("transB", false),
});

/** alpha op(A) op(B), where op swaps the last two dimensions if asked; com.microsoft. */
const fusedMatMul: Infer<Product> = (c) => {
  const [a, b] = [requiredFloat(c, 0), requiredFloat(c, 1)];
  sameDType(a, b);
  if (a.shape.length < 2 || b.shape.length < 2) throw new Error("FusedMatMul needs rank 2 or more");
  const { transA, transB } = c.attributes;
  const left = transA ? swapLast(a.shape) : a.shape;
  const right = transB ? swapLast(b.shape) : b.shape;
  return [type(a.dtype, product(left, right))];
};

const gemm: Infer<Product> = (c) => {
  const [a, b, bias] = [required(c, 0), required(c, 1), c.inputs[2]];
  if (a.shape.length !== 2 || b.shape.length !== 2) throw new Error("Gemm needs two matrices");
  const [out] = fusedMatMul(c);
  if (out === undefined) return [];
  if (bias !== undefined) {
    sameDType(a, bias);
    if (broadcast(out.shape, bias.shape).join() !== out.shape.join()) {
      throw new Error(`Bias [${bias.shape}] does not broadcast to [${out.shape}]`);
    }
  }
  return [out];
};

const einsum = spec((r) => ({ equation: r.string("equation") }), (c) => {
  const operands = c.inputs.map((_, i) => required(c, i));
  const first = required(c, 0);
  for (const v of operands) sameDType(first, v);
  const { output, sizes } = parseEquation(c.attributes.equation, operands.map((v) => v.shape));
  return [type(first.dtype, [...output].map((letter) => sizes.get(letter) ?? 1))];
});

const attentionAttributes = (r: AttributeReader) => ({
  num_heads: r.int("num_heads"),
  scale: r.float("scale"),
});

/**
 * Scaled dot-product attention, softmax(q kᵀ · scale + mask) v, of q [B, N, H·D], k and v [B, M, H·D] with attribute
 * `num_heads` = H and an optional additive mask broadcastable to [B, H, N, M]; com.microsoft's MultiHeadAttention. The
 * outputs after the first are for the gradient: probabilities [B, H, N, M], and the logarithm of the sum of exponentials
 * that each query's are divided by, [B, H, N, 1]. Where something reads one the operator is written out.
 */
const attention = spec(attentionAttributes, (c) => {
  const [q, k, v, mask] = [
    requiredFloat(c, 0),
    requiredFloat(c, 1),
    requiredFloat(c, 2),
    c.inputs[3],
  ];
  const heads = c.attributes.num_heads;
  const full = [dim(q.shape, 0), heads, dim(q.shape, 1), dim(k.shape, 1)];
  if (q.shape.length !== 3 || k.shape.length !== 3 || k.shape.join() !== v.shape.join()) {
    throw new Error("Attention needs q [B, N, C] and k, v of one shape [B, M, C]");
  }
  if (dim(q.shape, 0) !== dim(k.shape, 0) || dim(q.shape, 2) !== dim(k.shape, 2)) {
    throw new Error(`q [${q.shape}] and k [${k.shape}] differ in batch or width`);
  }
  if (heads < 1 || dim(q.shape, 2) % heads !== 0) {
    throw new Error(`Width ${dim(q.shape, 2)} is not a multiple of num_heads ${heads}`);
  }
  if (mask !== undefined) {
    if (mask.dtype !== q.dtype || broadcast(full, mask.shape).join() !== full.join()) {
      throw new Error(
        `Mask ${mask.dtype}[${mask.shape}] is not ${q.dtype} or does not broadcast to [${full}]`,
      );
    }
  }
  return [q.shape, full, [...full.slice(0, 3), 1]].map((shape) => type(q.dtype, shape));
});

/**
 * The gradients of `Attention` by q, k, v and, where there is one, the mask, before that is summed down to the mask's
 * shape. Inputs: q, k, v, mask, the result, what arrives at it, and the forward pass's other outputs, of which the
 * compiler reads one.
 */
const attentionGrad = spec(attentionAttributes, (c) => {
  const [q, k, v, p] = [0, 1, 2, 6].map((i) => required(c, i));
  if (q === undefined || k === undefined || v === undefined || p === undefined) return [];
  const made = c.inputs[3] === undefined ? [q, k, v] : [q, k, v, p];
  return made.map(({ dtype, shape }) => type(dtype, shape));
});

/** Contractions. */
export const LINEAR = {
  MatMul: matMul,
  FusedMatMul: spec(productAttributes, fusedMatMul),
  Gemm: spec((r) => ({ ...productAttributes(r), beta: r.float("beta", 1) }), gemm),
  Einsum: einsum,
  Attention: attention,
  AttentionGrad: attentionGrad,
};
