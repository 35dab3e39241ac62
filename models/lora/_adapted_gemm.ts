import type { Builder, Value } from "../../autodiff/mod.ts";
import type { ThinPair } from "../weight_scope.ts";

/** What an adapted layer multiplies: x [rows, in], weight [out, in], bias [out]. */
export interface AdaptedOperands {
  readonly x: Value;
  readonly weight: Value;
  readonly bias: Value | undefined;
  readonly pair: ThinPair;
}

/** x Wᵀ + s (x Aᵀ) Bᵀ: two thin products over all rows, added to the base layer's by the second. */
export function separateGemm(b: Builder, { x, weight, bias, pair }: AdaptedOperands): Value {
  const base = b.gemm(x, weight, { transB: true, ...(bias === undefined ? {} : { bias }) });
  const narrow = b.gemm(x, pair.a, { transB: true });
  return b.gemm(narrow, pair.b, { transB: true, alpha: pair.scale, bias: base });
}

/** x (W + s B A)ᵀ: one thin product of the size of the weight, then one over all rows. */
export function mergedGemm(b: Builder, { x, weight, bias, pair }: AdaptedOperands): Value {
  const merged = b.gemm(pair.b, pair.a, { alpha: pair.scale, bias: weight });
  return b.gemm(x, merged, { transB: true, ...(bias === undefined ? {} : { bias }) });
}

/**
 * Whether merging takes fewer multiplications beyond the base layer's. Forward, separate takes T r (in + out) for T
 * rows, merged r in out. With gradients, separate takes twice that again (dA, dB and what reaches x), merged
 * T in out for d(W + s B A) and 2 r in out from there to dA and dB.
 */
export function mergeIsCheaper(
  { rows, rank, width, out, differentiable }: {
    rows: number;
    rank: number;
    width: number;
    out: number;
    differentiable: boolean;
  },
): boolean {
  const separate = rows * rank * (width + out);
  const merged = rank * width * out;
  return differentiable ? rows * width * out + 3 * merged < 3 * separate : merged < separate;
}
