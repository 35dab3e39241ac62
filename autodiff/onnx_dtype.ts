import { TensorProto_DataType as Onnx } from "onnx-buf";
import type { DType } from "./tensor.ts";

const CODES = {
  float32: Onnx.FLOAT,
  float64: Onnx.DOUBLE,
  float16: Onnx.FLOAT16,
  bfloat16: Onnx.BFLOAT16,
  int64: Onnx.INT64,
  int32: Onnx.INT32,
  int8: Onnx.INT8,
  uint8: Onnx.UINT8,
  bool: Onnx.BOOL,
} as const satisfies Record<DType, Onnx>;

const NAMES = new Map<number, DType>([
  [Onnx.FLOAT, "float32"],
  [Onnx.DOUBLE, "float64"],
  [Onnx.FLOAT16, "float16"],
  [Onnx.BFLOAT16, "bfloat16"],
  [Onnx.INT64, "int64"],
  [Onnx.INT32, "int32"],
  [Onnx.INT8, "int8"],
  [Onnx.UINT8, "uint8"],
  [Onnx.BOOL, "bool"],
]);

/** ONNX's `TensorProto.DataType` code of a dtype. */
export function onnxOfDType(dtype: DType): number {
  return CODES[dtype];
}

/** The dtype of an ONNX code. Throws on strings, complex numbers and the 4- and 8-bit floats. */
export function dtypeOfOnnx(code: number): DType {
  const dtype = NAMES.get(code);
  if (dtype === undefined) {
    throw new TypeError(`ONNX data type ${Onnx[code] ?? code} is not supported`);
  }
  return dtype;
}
