import { BYTES_PER_ELEMENT, type DType, type Shape, type Tensor } from "../../autodiff/mod.ts";

/** A tensor over little-endian bytes. The bytes are not copied when they are aligned to the element size. */
export function tensorFromBytes(
  dtype: DType,
  shape: Shape,
  bytes: Uint8Array<ArrayBuffer>,
): Tensor {
  const aligned = bytes.byteOffset % BYTES_PER_ELEMENT[dtype] === 0 ? bytes : bytes.slice();
  const { buffer, byteOffset } = aligned;
  const length = aligned.byteLength / BYTES_PER_ELEMENT[dtype];
  switch (dtype) {
    case "float32":
      return { dtype, shape, data: new Float32Array(buffer, byteOffset, length) };
    case "float64":
      return { dtype, shape, data: new Float64Array(buffer, byteOffset, length) };
    case "float16":
    case "bfloat16":
      return { dtype, shape, data: new Uint16Array(buffer, byteOffset, length) };
    case "int64":
      return { dtype, shape, data: new BigInt64Array(buffer, byteOffset, length) };
    case "int32":
      return { dtype, shape, data: new Int32Array(buffer, byteOffset, length) };
    case "int8":
      return { dtype, shape, data: new Int8Array(buffer, byteOffset, length) };
    case "uint8":
    case "bool":
      return { dtype, shape, data: new Uint8Array(buffer, byteOffset, length) };
  }
}

/** The bytes of a tensor, a view of its data. */
export function bytesOf({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
