import {
  BYTES_PER_ELEMENT,
  type DType,
  type Shape,
  type Tensor,
  tensorOver,
} from "../../autodiff/mod.ts";

/** A tensor over little-endian bytes. The bytes are not copied when they are aligned to the element size. */
export function tensorFromBytes(
  dtype: DType,
  shape: Shape,
  bytes: Uint8Array<ArrayBuffer>,
): Tensor {
  const aligned = bytes.byteOffset % BYTES_PER_ELEMENT[dtype] === 0 ? bytes : bytes.slice();
  return tensorOver({ dtype, shape }, aligned);
}

/** The bytes of a tensor, a view of its data. */
export function bytesOf({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
