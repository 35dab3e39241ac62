import {
  type SparseTensorProto,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProto_DataType as Onnx,
} from "onnx-buf";
import { ImportError } from "../errors.ts";
import type { ValueType, WeightLocation } from "../graph.ts";
import { dtypeOfOnnx } from "../onnx_dtype.ts";
import {
  BYTES_PER_ELEMENT,
  castNumber,
  type DType,
  type Shape,
  sizeOf,
  type Tensor,
  tensorOver,
} from "../tensor.ts";

/** A tensor of a model file: its elements, or where in another file they lie. */
export type StoredTensor =
  | { readonly kind: "inline"; readonly tensor: Tensor }
  | { readonly kind: "external"; readonly type: ValueType; readonly location: WeightLocation };

/** Reads a tensor of a model file. Throws `ImportError` where what it declares and what it holds differ. */
export function readTensor(proto: TensorProto): StoredTensor {
  const type = { dtype: dtypeOf(proto.dataType, proto.name), shape: shapeOf(proto) };
  if (proto.segment !== undefined) {
    throw new ImportError(`Tensor "${proto.name}" is stored in segments, which is not supported`);
  }
  return proto.dataLocation === TensorProto_DataLocation.EXTERNAL
    ? { kind: "external", type, location: locationOf(proto, type) }
    : { kind: "inline", tensor: elementsOf(proto, type) };
}

/** Whole numbers that no graph has, and the next wider dtype that it has: they are read as that. */
const WIDER = new Map<number, DType>([
  [Onnx.INT16, "int32"],
  [Onnx.UINT16, "int32"],
  [Onnx.UINT32, "int64"],
  [Onnx.UINT64, "int64"],
  [Onnx.INT4, "int8"],
  [Onnx.UINT4, "uint8"],
]);

/** The dtype of an ONNX code; `what` is named where a tensor here cannot have it. */
export function dtypeOf(code: number, what: string): DType {
  const wider = WIDER.get(code);
  if (wider !== undefined) return wider;
  try {
    return dtypeOfOnnx(code);
  } catch (cause) {
    const name = Onnx[code] ?? code;
    throw new ImportError(`"${what}" has ONNX data type ${name}, which is not supported`, {
      cause,
    });
  }
}

function shapeOf({ name, dims }: TensorProto): Shape {
  const shape = dims.map(Number);
  if (shape.some((d) => d < 0) || !Number.isSafeInteger(sizeOf(shape))) {
    throw new ImportError(`Tensor "${name}" declares shape [${shape}]`);
  }
  return shape;
}

function locationOf(proto: TensorProto, type: ValueType): WeightLocation {
  const entries = new Map(proto.externalData.map(({ key, value }) => [key, value]));
  const file = entries.get("location") ?? "";
  const parts = file.split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..") || /[\\:\0]/.test(file)) {
    throw new ImportError(
      `Tensor "${proto.name}" lies in "${file}", expected a path inside the model's folder`,
    );
  }
  const bytes = (key: string, fallback: number) => {
    const text = entries.get(key) ?? String(fallback);
    if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(Number(text))) return Number(text);
    throw new ImportError(`Tensor "${proto.name}" has ${key} "${text}", expected bytes`);
  };
  if (WIDER.has(proto.dataType)) {
    throw new ImportError(
      `Tensor "${proto.name}" is ${Onnx[proto.dataType]} in another file, which is not supported`,
    );
  }
  const expected = sizeOf(type.shape) * BYTES_PER_ELEMENT[type.dtype];
  const length = bytes("length", expected);
  if (length !== expected) throw wrongLength(proto, type, { found: length, expected, of: "bytes" });
  return { file, offset: bytes("offset", 0) };
}

function elementsOf(proto: TensorProto, type: ValueType): Tensor {
  const { dtype } = type;
  const size = sizeOf(type.shape);
  if (WIDER.has(proto.dataType)) return widened(proto, type);
  if (proto.rawData.byteLength > 0) {
    const expected = size * BYTES_PER_ELEMENT[dtype];
    const found = proto.rawData.byteLength;
    if (found !== expected) throw wrongLength(proto, type, { found, expected, of: "bytes" });
    // A copy: aligned, and it does not keep the whole file in memory.
    return tensorOver(type, proto.rawData.slice());
  }
  const { floatData, doubleData, int32Data, int64Data } = proto;
  const held: readonly unknown[] = dtype === "float32"
    ? floatData
    : dtype === "float64"
    ? doubleData
    : dtype === "int64"
    ? int64Data
    : int32Data;
  const found = held.length;
  if (found !== size) throw wrongLength(proto, type, { found, expected: size, of: "entries" });
  switch (dtype) {
    case "float32":
      return castNumber(floatData, type);
    case "float64":
      return castNumber(doubleData, type);
    case "int64":
      return tensorOver(type, BigInt64Array.from(int64Data));
    case "float16":
    case "bfloat16":
      return tensorOver(type, Uint16Array.from(int32Data));
    default:
      return castNumber(int32Data, type);
  }
}

/** Bits of an entry in raw data. */
const BITS = new Map<number, number>([
  [Onnx.INT16, 16],
  [Onnx.UINT16, 16],
  [Onnx.UINT32, 32],
  [Onnx.UINT64, 64],
  [Onnx.INT4, 4],
  [Onnx.UINT4, 4],
]);

/** The entries of a tensor whose dtype no graph has. Of two entries in a byte the first is the low half. */
function widened(proto: TensorProto, type: ValueType): Tensor {
  const { rawData, int32Data, uint64Data, dataType } = proto;
  const size = sizeOf(type.shape);
  const bits = BITS.get(dataType) ?? 8;
  const isSmall = bits === 4;
  const isRaw = rawData.byteLength > 0;
  const held = isRaw ? rawData.byteLength : bits < 32 ? int32Data.length : uint64Data.length;
  const expected = isSmall ? Math.ceil(size / 2) : isRaw ? size * bits / 8 : size;
  if (held !== expected) {
    throw wrongLength(proto, type, { found: held, expected, of: isRaw ? "bytes" : "entries" });
  }
  const view = new DataView(rawData.buffer, rawData.byteOffset, rawData.byteLength);
  const at = (i: number): number | bigint => {
    if (isSmall) {
      const half = ((isRaw ? view.getUint8(i >> 1) : int32Data[i >> 1] ?? 0) >> (4 * (i & 1))) & 15;
      return dataType === Onnx.INT4 && half > 7 ? half - 16 : half;
    }
    if (!isRaw) return bits < 32 ? int32Data[i] ?? 0 : uint64Data[i] ?? 0n;
    if (dataType === Onnx.INT16) return view.getInt16(2 * i, true);
    if (dataType === Onnx.UINT16) return view.getUint16(2 * i, true);
    return bits === 32 ? view.getUint32(4 * i, true) : view.getBigUint64(8 * i, true);
  };
  if (type.dtype !== "int64") {
    return castNumber(Float64Array.from({ length: size }, (_, i) => Number(at(i))), type);
  }
  return tensorOver(type, BigInt64Array.from({ length: size }, (_, i) => BigInt(at(i))));
}

/** Entries that a tensor stored by its entries other than zero may have. */
const LARGEST_SPARSE = 2 ** 24;

/** A tensor stored by its entries other than zero, with all of them. Throws `ImportError` where it is damaged. */
export function readSparse({ values, indices, dims }: SparseTensorProto): Tensor {
  const name = values?.name ?? "";
  const [entries, at] = [values, indices].map((proto) => proto && readTensor(proto));
  const shape = dims.map(Number);
  const size = sizeOf(shape);
  if (entries?.kind !== "inline" || at?.kind !== "inline" || at.tensor.dtype !== "int64") {
    throw new ImportError(`Sparse tensor "${name}" has no entries or no int64 indices`);
  }
  if (!(size <= LARGEST_SPARSE) || shape.some((d) => d < 0)) {
    throw new ImportError(
      `Sparse tensor "${name}" has shape [${shape}], at most ${LARGEST_SPARSE} entries are allowed`,
    );
  }
  const { dtype, data } = entries.tensor;
  const rank = at.tensor.shape.length === 2 ? shape.length : 1;
  if (at.tensor.data.length !== data.length * rank) {
    throw new ImportError(`Sparse tensor "${name}" has indices [${at.tensor.shape}]`);
  }
  const width = BYTES_PER_ELEMENT[dtype];
  const full = new Uint8Array(size * width);
  const held = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  for (let i = 0; i < data.length; i++) {
    const coordinates = Array.from(at.tensor.data.subarray(i * rank, (i + 1) * rank), Number);
    const index = rank === 1
      ? coordinates[0] ?? -1
      : coordinates.reduce((p, c, axis) => p * (shape[axis] ?? 1) + c, 0);
    if (!(index >= 0 && index < size)) {
      throw new ImportError(`Sparse tensor "${name}" has an entry at ${coordinates}`);
    }
    full.set(held.subarray(i * width, (i + 1) * width), index * width);
  }
  return tensorOver({ dtype, shape }, full);
}

function wrongLength(
  { name }: TensorProto,
  { dtype, shape }: ValueType,
  { found, expected, of }: { found: number; expected: number; of: string },
): ImportError {
  return new ImportError(
    `Tensor "${name}" holds ${found} ${of}, ${dtype}[${shape}] needs ${expected}`,
  );
}
