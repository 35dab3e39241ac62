import { string } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { parseEquation } from "../infer/_einsum.ts";
import { type AttributeValues, dim } from "../infer/mod.ts";
import { sizeOf } from "../tensor.ts";
import { cotangent, input, type Rule, type RuleContext, type Rules } from "./_types.ts";

/** One matrix of all rows of x: [..., n] -> [rows, n]. */
function asRows(b: Builder, x: Value): Value {
  const width = dim(x.shape, -1);
  return b.reshape(x, [sizeOf(x.shape) / width, width]);
}

/**
 * Y = A B: dA = dY Bᵀ, dB = Aᵀ dY, where vectors are matrices with one row or column. Against one shared matrix each
 * is a single Gemm over all rows, which needs no transposed copy of a weight.
 */
const matMul: Rule = (c) => {
  const { b } = c;
  const [x, y] = [input(c, 0), input(c, 1)];
  const [row, column] = [x.shape.length === 1, y.shape.length === 1];
  const left = row ? b.reshape(x, [1, ...x.shape]) : x;
  const right = column ? b.reshape(y, [...y.shape, 1]) : y;
  const [m, n] = [dim(left.shape, -2), dim(right.shape, -1)];
  const batch = cotangent(c).shape.slice(0, -(Number(!row) + Number(!column)) || undefined);
  const dy = b.reshape(cotangent(c), [...batch, m, n]);
  const shared = right.shape.length === 2;
  const dx = () =>
    shared
      ? b.reshape(b.gemm(asRows(b, dy), right, { transB: true }), [
        ...batch,
        m,
        dim(left.shape, -1),
      ])
      : b.fusedMatMul(dy, right, { transB: true });
  const dw = () =>
    shared
      ? b.gemm(asRows(b, left), asRows(b, dy), { transA: true })
      : b.fusedMatMul(left, dy, { transA: true });
  return [
    c.wants[0] ? (row ? b.squeeze(dx(), [-2]) : dx()) : undefined,
    c.wants[1] ? (column ? b.squeeze(dw(), [-1]) : dw()) : undefined,
  ];
};

type Product = AttributeValues["FusedMatMul"];

/**
 * Y = α op(A) op(B): d op(A) = α dY op(B)ᵀ, d op(B) = α op(A)ᵀ dY, transposed where the operand was. All by flags of
 * the same operator: nothing is ever transposed in memory.
 */
function productGradients(
  c: RuleContext<Product>,
  multiply: (x: Value, y: Value, options: Product) => Value,
): (Value | undefined)[] {
  const [x, y, dy] = [input(c, 0), input(c, 1), cotangent(c)];
  const { transA, transB, alpha } = c.attributes;
  const dx = () =>
    transA
      ? multiply(y, dy, { transA: transB, transB: true, alpha })
      : multiply(dy, y, { transA: false, transB: !transB, alpha });
  const dw = () =>
    transB
      ? multiply(dy, x, { transA: true, transB: transA, alpha })
      : multiply(x, dy, { transA: !transA, transB: false, alpha });
  return [c.wants[0] ? dx() : undefined, c.wants[1] ? dw() : undefined];
}

const fusedMatMul: Rule<Product> = (c) =>
  productGradients(c, (x, y, o) => c.b.fusedMatMul(x, y, o));

const gemm: Rule<AttributeValues["Gemm"]> = (c) => {
  const { beta } = c.attributes;
  const dy = cotangent(c);
  return [
    ...productGradients(c, (x, y, o) => c.b.gemm(x, y, o)),
    beta === 1 ? dy : c.b.mul(dy, beta),
  ];
};

/**
 * The gradient of one operand is the Einsum of dy with the other operands onto its letters. Letters that only this
 * operand has were summed away: the gradient is the same all along them.
 */
const einsum: Rule<AttributeValues["Einsum"]> = (c) => {
  const { b } = c;
  const operands = c.inputs.map((_, i) => input(c, i));
  const { terms, output, sizes } = parseEquation(
    c.attributes.equation,
    operands.map((v) => v.shape),
  );
  return terms.map((term, i) => {
    if (!c.wants[i]) return undefined;
    const others = terms.map((t, k) => k === i ? output : t);
    const present = new Set(others.join(""));
    const kept = [...term].filter((letter) => present.has(letter)).join("");
    const factors = operands.map((v, k) => k === i ? cotangent(c) : v);
    const g = b.call("Einsum", factors, { equation: string(`${others.join()}->${kept}`) });
    return b.reshape(
      g,
      [...term].map((letter) => present.has(letter) ? sizes.get(letter) ?? 1 : 1),
    );
  });
};

/** Rules of contractions. */
export const LINEAR_RULES = {
  MatMul: matMul,
  FusedMatMul: fusedMatMul,
  Gemm: gemm,
  Einsum: einsum,
} satisfies Rules;
