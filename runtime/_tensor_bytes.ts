import { BYTES_PER_ELEMENT, type DType, type Shape, type Tensor } from "../autodiff/mod.ts";

/** True when `name` is one of our dtypes. */
export function isDType(name: string): name is DType {
  return Object.hasOwn(BYTES_PER_ELEMENT, name);
}

/** The bytes of a tensor's data, not copied. */
export function bytesOf({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** A tensor over the memory of `view`, which holds its elements in native byte order. */
export function tensorOver(dtype: DType, shape: Shape, view: ArrayBufferView): Tensor {
  const { buffer, byteOffset, byteLength } = view;
  const length = byteLength / BYTES_PER_ELEMENT[dtype];
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
