import { float, int, type Shape, string } from "../../../autodiff/mod.ts";
import { type OpCase, opCase } from "./_case.ts";

const matMul = (x: Shape, y: Shape) => opCase({ x, y }, (b, { x, y }) => b.matMul(x, y));

const fused = (
  x: Shape,
  y: Shape,
  options: { transA?: boolean; transB?: boolean; alpha?: number },
) => opCase({ x, y }, (b, { x, y }) => b.fusedMatMul(x, y, options));

const gemm = (
  x: Shape,
  y: Shape,
  { bias, ...options }: {
    bias?: Shape;
    transA?: boolean;
    transB?: boolean;
    alpha?: number;
    beta?: number;
  } = {},
) => {
  const attributes = {
    transA: int(options.transA ? 1 : 0),
    transB: int(options.transB ? 1 : 0),
    alpha: float(options.alpha ?? 1),
    beta: float(options.beta ?? 1),
  };
  return bias === undefined
    ? opCase({ x, y }, (b, { x, y }) => b.call("Gemm", [x, y], attributes))
    : opCase({ x, y, bias }, (b, { x, y, bias }) => b.call("Gemm", [x, y, bias], attributes));
};

const einsum = (equation: string, x: Shape, y: Shape) =>
  opCase({ x, y }, (b, { x, y }) => b.call("Einsum", [x, y], { equation: string(equation) }));

/** Cases of contractions. */
export const LINEAR_CASES = {
  MatMul: {
    "matrices": matMul([2, 3], [3, 4]),
    "vector and matrix": matMul([3], [3, 4]),
    "matrix and vector": matMul([2, 3], [3]),
    "two vectors": matMul([3], [3]),
    "vector and batch": matMul([3], [2, 3, 4]),
    "batch and vector": matMul([2, 4, 3], [3]),
    "batch and shared matrix": matMul([2, 5, 3], [3, 4]),
    "shared matrix and batch": matMul([5, 3], [2, 3, 4]),
    "two batches": matMul([2, 5, 3], [2, 3, 4]),
    "batches are broadcast both ways": matMul([2, 1, 5, 3], [4, 3, 2]),
    "four axes": matMul([2, 2, 3, 4], [2, 2, 4, 3]),
    "batch of one": matMul([2, 4, 3], [1, 3, 2]),
  },
  FusedMatMul: {
    "plain": fused([2, 5, 3], [2, 3, 4], {}),
    "left transposed": fused([2, 3, 5], [2, 3, 4], { transA: true }),
    "right transposed": fused([2, 5, 3], [2, 4, 3], { transB: true, alpha: 0.3 }),
    "both transposed": fused([2, 3, 5], [2, 4, 3], { transA: true, transB: true, alpha: -2 }),
    "right broadcast and transposed": fused([2, 5, 3], [4, 3], { transB: true }),
    "left broadcast and transposed": fused([3, 5], [2, 3, 4], { transA: true, alpha: 0.5 }),
    "four axes": fused([2, 2, 5, 3], [2, 2, 4, 3], { transB: true, alpha: 0.7 }),
  },
  Gemm: {
    "plain": gemm([2, 3], [3, 4]),
    "bias per column": gemm([2, 3], [3, 4], { bias: [4] }),
    "bias per row": gemm([2, 3], [3, 4], { bias: [2, 1], beta: 0.5 }),
    "scalar bias": gemm([2, 3], [3, 4], { bias: [], alpha: 2 }),
    "full bias, left transposed": gemm([3, 2], [3, 4], { bias: [2, 4], transA: true }),
    "right transposed": gemm([2, 3], [4, 3], { bias: [4], transB: true, alpha: 0.5 }),
    "both transposed": gemm([3, 2], [4, 3], { transA: true, transB: true, alpha: 3, beta: 2 }),
    "linear layer": opCase(
      { x: [2, 5, 3], weight: [4, 3], bias: [4] },
      (b, { x, weight, bias }) => b.linear(x, weight, bias),
    ),
  },
  Einsum: {
    "product of matrices": einsum("ij,jk->ik", [2, 3], [3, 4]),
    "implicit output": einsum("ij,jk", [2, 3], [3, 4]),
    "implicit output in alphabetical order": einsum("cb,ca", [2, 3], [2, 4]),
    "attention scores": einsum("bnhd,bmhd->bhnm", [2, 3, 2, 4], [2, 5, 2, 4]),
    "outer product": einsum("i,j->ij", [2], [3]),
    "inner product": einsum("ij,ij->", [2, 3], [2, 3]),
    "letter summed in one operand only": einsum("ij,k->k", [2, 3], [4]),
    "ellipsis": einsum("...ij,...jk->...ik", [2, 5, 3], [2, 3, 4]),
    "ellipsis of two axes, in one term only": einsum("...ij,jk->...ik", [2, 2, 5, 3], [3, 4]),
    "ellipsis in an implicit output": einsum("...ij,...ik", [2, 4, 3], [2, 4, 2]),
    "spaces": einsum(" i j , j k -> k i ", [2, 3], [3, 4]),
    "one operand": opCase(
      { x: [2, 3, 4] },
      (b, { x }) => b.call("Einsum", [x], { equation: string("ijk->ki") }),
    ),
    "three operands": opCase(
      { x: [2, 3], y: [3, 4], z: [4, 2] },
      (b, { x, y, z }) => b.call("Einsum", [x, y, z], { equation: string("ij,jk,kl->il") }),
    ),
  },
} satisfies Record<string, Record<string, OpCase>>;
