import type { Shape, TensorOf } from "../../autodiff/mod.ts";

type Float32 = TensorOf<"float32">;

/** a b of matrices [m, k] and [k, n], whatever their shapes say. */
export function multiply(
  a: Float32,
  b: Float32,
  { m, k, n }: { readonly m: number; readonly k: number; readonly n: number },
): Float32 {
  const data = new Float32Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < k; j++) {
      const factor = a.data[i * k + j] ?? 0;
      if (factor === 0) continue;
      for (let c = 0; c < n; c++) {
        data[i * n + c] = (data[i * n + c] ?? 0) + factor * (b.data[j * n + c] ?? 0);
      }
    }
  }
  return { dtype: "float32", shape: [m, n], data };
}

/** The transpose of a matrix [m, n]. */
export function transposed(
  a: Float32,
  { m, n }: { readonly m: number; readonly n: number },
): Float32 {
  const data = new Float32Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) data[j * m + i] = a.data[i * n + j] ?? 0;
  }
  return { dtype: "float32", shape: [n, m], data };
}

/**
 * A core [r, s, k] (k: kernel positions) times a matrix [s, width]: [r, width · k], the inner part of a convolution in
 * Tucker's form.
 */
export function coreTimes(
  core: Float32,
  matrix: Float32,
  { r, s, k, width }: {
    readonly r: number;
    readonly s: number;
    readonly k: number;
    readonly width: number;
  },
): Float32 {
  const data = new Float32Array(r * width * k);
  for (let i = 0; i < r; i++) {
    for (let j = 0; j < s; j++) {
      for (let p = 0; p < k; p++) {
        const factor = core.data[(i * s + j) * k + p] ?? 0;
        if (factor === 0) continue;
        for (let c = 0; c < width; c++) {
          const at = (i * width + c) * k + p;
          data[at] = (data[at] ?? 0) + factor * (matrix.data[j * width + c] ?? 0);
        }
      }
    }
  }
  return { dtype: "float32", shape: [r, width * k], data };
}

/** Rows start..end of a tensor whose first axis has `rows`. */
export function rowsOf(
  tensor: Float32,
  [start, end]: readonly [number, number],
  rows: number,
): Float32 {
  const width = tensor.data.length / rows;
  const shape: Shape = [end - start, ...tensor.shape.slice(1)];
  return { dtype: "float32", shape, data: tensor.data.subarray(start * width, end * width) };
}
