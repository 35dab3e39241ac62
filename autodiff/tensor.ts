/** Element types a graph value may have, by the names numpy and PyTorch use. */
export type DType =
  | "float32"
  | "float64"
  | "float16"
  | "bfloat16"
  | "int64"
  | "int32"
  | "int8"
  | "uint8"
  | "bool";

/** Dimensions of a tensor, outermost first. A scalar has shape `[]`. */
export type Shape = readonly number[];

/** The typed array that holds each dtype. float16 and bfloat16 are held as raw bits; bool as 0/1 bytes. */
export interface DataOf {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array;
  bfloat16: Uint16Array;
  int64: BigInt64Array;
  int32: Int32Array;
  int8: Int8Array;
  uint8: Uint8Array;
  bool: Uint8Array;
}

/** A dense row-major tensor of one dtype. */
export interface TensorOf<D extends DType> {
  readonly dtype: D;
  readonly shape: Shape;
  readonly data: DataOf[D];
}

/** A dense row-major tensor; discriminated by `dtype`, so `t.dtype === "float32"` narrows `t.data`. */
export type Tensor = { [D in DType]: TensorOf<D> }[DType];

/** Bytes per element of each dtype. */
export const BYTES_PER_ELEMENT: Readonly<Record<DType, number>> = {
  float32: 4,
  float64: 8,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int8: 1,
  uint8: 1,
  bool: 1,
};

/** Number of elements of a shape; 1 for a scalar. */
export function sizeOf(shape: Shape): number {
  let n = 1;
  for (const d of shape) n *= d;
  return n;
}

/** True for the floating dtypes, the only ones gradients flow through. */
export function isFloat(dtype: DType): boolean {
  return dtype === "float32" || dtype === "float64" || dtype === "float16" || dtype === "bfloat16";
}

/** A float32 tensor. Throws when `data.length` is not the size of `shape`. */
export function float32(
  data: Float32Array | readonly number[],
  shape: Shape = [data.length],
): TensorOf<"float32"> {
  const a = data instanceof Float32Array ? data : Float32Array.from(data);
  checkSize(a.length, shape);
  return { dtype: "float32", shape, data: a };
}

/** A float64 tensor. Throws when `data.length` is not the size of `shape`. */
export function float64(
  data: Float64Array | readonly number[],
  shape: Shape = [data.length],
): TensorOf<"float64"> {
  const a = data instanceof Float64Array ? data : Float64Array.from(data);
  checkSize(a.length, shape);
  return { dtype: "float64", shape, data: a };
}

/** An int64 tensor. Throws when `data.length` is not the size of `shape`. */
export function int64(
  data: BigInt64Array | readonly number[],
  shape: Shape = [data.length],
): TensorOf<"int64"> {
  const a = data instanceof BigInt64Array ? data : BigInt64Array.from(data, (v) => BigInt(v));
  checkSize(a.length, shape);
  return { dtype: "int64", shape, data: a };
}

function checkSize(found: number, shape: Shape): void {
  const expected = sizeOf(shape);
  if (found !== expected) {
    throw new RangeError(
      `Tensor data has ${found} elements; shape [${shape.join(", ")}] needs ${expected}`,
    );
  }
}

/** Numbers rounded to a dtype. float16 and bfloat16 round to nearest even; ints must be whole. */
export function castNumber(
  values: ArrayLike<number>,
  { dtype, shape }: { dtype: DType; shape: Shape },
): Tensor {
  checkSize(values.length, shape);
  switch (dtype) {
    case "float32":
      return { dtype, shape, data: Float32Array.from(values) };
    case "float64":
      return { dtype, shape, data: Float64Array.from(values) };
    case "float16":
      return { dtype, shape, data: new Uint16Array(Float16Array.from(values).buffer) };
    case "bfloat16":
      return { dtype, shape, data: Uint16Array.from(values, bfloat16Bits) };
    case "int64":
      return { dtype, shape, data: BigInt64Array.from(Array.from(values, BigInt)) };
    case "int32":
      return { dtype, shape, data: Int32Array.from(values) };
    case "int8":
      return { dtype, shape, data: Int8Array.from(values) };
    case "uint8":
      return { dtype, shape, data: Uint8Array.from(values) };
    case "bool":
      return { dtype, shape, data: Uint8Array.from(values, (v) => v === 0 ? 0 : 1) };
  }
}

/** A tensor over the memory of a view, which must be aligned for the dtype and as long as the shape needs. */
export function tensorOver(
  { dtype, shape }: { readonly dtype: DType; readonly shape: Shape },
  { buffer, byteOffset, byteLength }: ArrayBufferView,
): Tensor {
  const length = byteLength / BYTES_PER_ELEMENT[dtype];
  checkSize(length, shape);
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

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

function bfloat16Bits(value: number): number {
  scratch[0] = value;
  const u = scratchBits[0] ?? 0;
  if (Number.isNaN(value)) return (u >>> 16) | 0x40;
  return (u + 0x7fff + ((u >>> 16) & 1)) >>> 16;
}
