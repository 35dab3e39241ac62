import { BYTES_PER_ELEMENT, type DType, type Tensor } from "../autodiff/mod.ts";

/** True when `name` is one of our dtypes. */
export function isDType(name: string): name is DType {
  return Object.hasOwn(BYTES_PER_ELEMENT, name);
}

/** The bytes of a tensor's data, not copied. */
export function bytesOf({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
