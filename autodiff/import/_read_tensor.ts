import { type TensorProto, TensorProto_DataLocation, TensorProto_DataType } from "onnx-buf";
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

/** The dtype of an ONNX code; `what` is named where a tensor here cannot have it. */
export function dtypeOf(code: number, what: string): DType {
  try {
    return dtypeOfOnnx(code);
  } catch (cause) {
    const name = TensorProto_DataType[code] ?? code;
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
  const expected = sizeOf(type.shape) * BYTES_PER_ELEMENT[type.dtype];
  const length = bytes("length", expected);
  if (length !== expected) throw wrongLength(proto, type, { found: length, expected, of: "bytes" });
  return { file, offset: bytes("offset", 0) };
}

function elementsOf(proto: TensorProto, type: ValueType): Tensor {
  const { dtype } = type;
  const size = sizeOf(type.shape);
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

function wrongLength(
  { name }: TensorProto,
  { dtype, shape }: ValueType,
  { found, expected, of }: { found: number; expected: number; of: string },
): ImportError {
  return new ImportError(
    `Tensor "${name}" holds ${found} ${of}, ${dtype}[${shape}] needs ${expected}`,
  );
}
