import { float32, type TensorOf } from "../autodiff/mod.ts";

/** A float32 tensor. */
export type Float32Tensor = TensorOf<"float32">;

/** Float32 tensors by name, as the trained parameters and their gradients. */
export type Parameters = Readonly<Record<string, Float32Tensor>>;

/** Tensors of equal inner shape, one after the other along the batch axis. */
export function concatBatch(parts: readonly Float32Tensor[]): Float32Tensor {
  const [first] = parts;
  if (first === undefined) throw new RangeError("No tensor to put into a batch");
  if (parts.length === 1) return first;
  const data = new Float32Array(parts.reduce((n, p) => n + p.data.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at);
    at += part.data.length;
  }
  return float32(data, [parts.reduce((n, p) => n + batchOf(p), 0), ...first.shape.slice(1)]);
}

/** Rows `start`..`end`-1 along the batch axis, sharing memory. */
export function sliceBatch(tensor: Float32Tensor, start: number, end: number): Float32Tensor {
  const row = tensor.data.length / batchOf(tensor);
  return float32(tensor.data.subarray(start * row, end * row), [
    end - start,
    ...tensor.shape.slice(1),
  ]);
}

/** Size of the first axis. */
export function batchOf(tensor: { readonly shape: readonly number[] }): number {
  return tensor.shape[0] ?? 1;
}

/** `into` += `more`, in place, creating what is missing. Sums are float32: parts are few. */
export function accumulate(into: Record<string, Float32Tensor>, more: Parameters): void {
  for (const [name, { shape, data }] of Object.entries(more)) {
    const sum = into[name];
    if (sum === undefined) into[name] = float32(data.slice(), shape);
    else for (let i = 0; i < data.length; i++) sum.data[i] = (sum.data[i] ?? 0) + (data[i] ?? 0);
  }
}

/** Every parameter put through a function. */
export function mapParameters(
  parameters: Parameters,
  to: (p: Float32Tensor) => Float32Tensor,
): Parameters {
  return Object.fromEntries(Object.entries(parameters).map(([name, p]) => [name, to(p)]));
}
