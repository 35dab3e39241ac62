import { type Builder, gradient, type Seed, type Value } from "../autodiff/mod.ts";
import type { Precision } from "./target.ts";

/** Below this, what arrives is taken for zero. */
const NOTHING = 2 ** -100;

/**
 * `gradient` for a graph that may be computed in float16, which holds 6e-8 to 65504: there, gradients are those of
 * cotangents divided by the largest entry of all of them, and are multiplied by it in the end. Products are linear in
 * their cotangents, so nothing else changes. With a largest entry of 1 gradients may grow by 2^15 on their way back, and
 * those 2^14 smaller keep all of their digits.
 */
export function scaledGradient(
  b: Builder,
  seeds: readonly Seed[],
  { wrt, precision }: { readonly wrt: readonly Value[]; readonly precision: Precision },
): readonly Value[] {
  if (precision === "float32") return gradient(b, seeds, wrt);
  const size = seeds.reduce(
    (most: Value | number, { cotangent }) =>
      b.max(b.maxOf(b.abs(cotangent), { keepDims: false }), most),
    NOTHING,
  );
  const factor = b.div(1, size);
  const scaled = seeds.map(({ value, cotangent }) => ({
    value,
    cotangent: b.mul(cotangent, factor),
  }));
  // A product with a factor would be float16 where the gradient is, a quotient is float32.
  return gradient(b, scaled, wrt).map((g) => b.div(g, factor));
}
