import type { Builder, Value } from "../../autodiff/mod.ts";
import type { AxisFit, PlaneFit } from "./fit.ts";
import { resizeTaps } from "./resize_taps.ts";

/**
 * Appends the linear map of a fit: x [B, 3, H, W] becomes [B, 3, height, width]. Resizing is separable, so it is one
 * matrix per axis, of which only the rows that survive the crop are made and the padded ones are zero. Nothing is
 * clamped or rounded: the gradient is exact.
 */
export function fitImages(b: Builder, x: Value, { rows, columns }: PlaneFit): Value {
  const vertical = (v: Value) =>
    isIdentity(rows)
      ? v
      : b.matMul(b.table(matrix(rows), { dtype: x.dtype, shape: [rows.size, rows.from] }), v);
  const horizontal = (v: Value) =>
    isIdentity(columns) ? v : b.fusedMatMul(
      v,
      b.table(matrix(columns), { dtype: x.dtype, shape: [columns.size, columns.from] }),
      { transB: true },
    );
  // The axis that shrinks most goes first: the second product is then over the smaller image.
  return rows.from > columns.from ? horizontal(vertical(x)) : vertical(horizontal(x));
}

/** True where a fit changes nothing. */
export function isIdentityFit({ rows, columns }: PlaneFit): boolean {
  return isIdentity(rows) && isIdentity(columns);
}

function isIdentity({ from, to, offset, size }: AxisFit): boolean {
  return from === size && to === size && offset === 0;
}

function matrix({ offset, size, ...resize }: AxisFit): Float64Array {
  const { from, to } = resize;
  const m = new Float64Array(size * from);
  for (let i = 0; i < size; i++) {
    const index = offset + i;
    if (index < 0 || index >= to) continue;
    const { first, weights } = resizeTaps(index, resize);
    m.set(weights, i * from + first);
  }
  return m;
}
