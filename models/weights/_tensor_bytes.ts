import {
  BYTES_PER_ELEMENT,
  type DType,
  type Shape,
  type Tensor,
  tensorOver,
} from "../../autodiff/mod.ts";
import { float8ToFloat16 } from "./float8.ts";
import type { SafetensorsEntry } from "./_safetensors_header.ts";

/** A tensor over little-endian bytes. The bytes are not copied when they are aligned to the element size. */
export function tensorFromBytes(
  dtype: DType,
  shape: Shape,
  bytes: Uint8Array<ArrayBuffer>,
): Tensor {
  const aligned = bytes.byteOffset % BYTES_PER_ELEMENT[dtype] === 0 ? bytes : bytes.slice();
  return tensorOver({ dtype, shape }, aligned);
}

/** A tensor over the bytes that a safetensors entry has: floats of eight bits become float16. */
export function tensorOfEntry(
  { dtype, shape, float8 }: Pick<SafetensorsEntry, "dtype" | "shape" | "float8">,
  bytes: Uint8Array<ArrayBuffer>,
): Tensor {
  return float8 === undefined
    ? tensorFromBytes(dtype, shape, bytes)
    : { dtype: "float16", shape, data: float8ToFloat16(bytes, float8) };
}

/** The bytes of a tensor, a view of its data. */
export function bytesOf({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
