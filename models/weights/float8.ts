/** Formats of floats in eight bits: four bits of exponent and three of fraction without infinities, or five and two. */
export type Float8 = "float8_e4m3fn" | "float8_e5m2";

/** Eight-bit floats to float16 bits, exact: every value of both formats, infinities and subnormals included, is a float16 value. */
export function float8ToFloat16(bytes: Uint8Array, format: Float8): Uint16Array {
  const table = format === "float8_e5m2" ? E5M2 : E4M3FN;
  return Uint16Array.from(bytes, (byte) => table[byte] ?? 0);
}

/** The upper half of a float16. */
const E5M2 = Uint16Array.from({ length: 256 }, (_, byte) => byte << 8);

const E4M3FN = new Uint16Array(
  Float16Array.from({ length: 256 }, (_, byte) => {
    const [sign, exponent, fraction] = [byte >> 7 ? -1 : 1, byte >> 3 & 15, byte & 7];
    if (exponent === 15 && fraction === 7) return NaN;
    return exponent === 0
      ? sign * fraction * 2 ** -9
      : sign * (1 + fraction / 8) * 2 ** (exponent - 7);
  }).buffer,
);
