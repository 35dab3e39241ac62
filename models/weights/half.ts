import type { Tensor, TensorOf } from "../../autodiff/mod.ts";

/** float16 bits to float32, exact: every float16 value, infinities and subnormals included, is a float32 value. */
export function float16ToFloat32(bits: Uint16Array): Float32Array {
  return new Float32Array(new Float16Array(bits.buffer, bits.byteOffset, bits.length));
}

/** float32 to float16 bits, round to nearest, ties to even; beyond 65519.99 becomes infinity; NaN stays NaN. */
export function float32ToFloat16(values: Float32Array): Uint16Array {
  return new Uint16Array(new Float16Array(values).buffer);
}

/** bfloat16 bits to float32, exact: bfloat16 is the upper half of a float32. */
export function bfloat16ToFloat32(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = (bits[i] ?? 0) << 16;
  return new Float32Array(words.buffer);
}

/** float32 to bfloat16 bits, round to nearest, ties to even; NaN becomes a quiet NaN of the same sign. */
export function float32ToBfloat16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const word = words[i] ?? 0;
    const isNaN = (word & 0x7fffffff) > 0x7f800000;
    // Adding just under half of the last kept bit, plus that bit itself, carries exactly when rounding up is due.
    bits[i] = isNaN ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return bits;
}

/**
 * The tensor in float32: float16 and bfloat16 exactly, float64 rounded to nearest, float32 as it is (not copied).
 * Throws `TypeError` for integer and bool tensors.
 */
export function toFloat32(tensor: Tensor): TensorOf<"float32"> {
  const { shape } = tensor;
  switch (tensor.dtype) {
    case "float32":
      return tensor;
    case "float64":
      return { dtype: "float32", shape, data: new Float32Array(tensor.data) };
    case "float16":
      return { dtype: "float32", shape, data: float16ToFloat32(tensor.data) };
    case "bfloat16":
      return { dtype: "float32", shape, data: bfloat16ToFloat32(tensor.data) };
    default:
      throw new TypeError(
        `Tensor has dtype ${tensor.dtype}; expected float32, float64, float16 or bfloat16`,
      );
  }
}
