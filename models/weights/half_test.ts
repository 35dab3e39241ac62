import assert from "node:assert/strict";
import { float32, int64 } from "../../autodiff/mod.ts";
import {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
  toFloat32,
} from "./half.ts";

/** The value of 16 bits by the definition of IEEE 754: sign, exponent bits, mantissa bits. */
function valueOf(bits: number, { exponentBits }: { exponentBits: number }): number {
  const mantissaBits = 15 - exponentBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> mantissaBits) & (2 ** exponentBits - 1);
  const mantissa = bits & (2 ** mantissaBits - 1);
  if (exponent === 2 ** exponentBits - 1) return mantissa ? NaN : sign * Infinity;
  if (exponent === 0) return sign * mantissa * 2 ** (1 - bias - mantissaBits);
  return sign * (1 + mantissa / 2 ** mantissaBits) * 2 ** (exponent - bias);
}

const ALL = Uint16Array.from({ length: 65536 }, (_, i) => i);

for (
  const [name, exponentBits, widen, narrow] of [
    ["float16", 5, float16ToFloat32, float32ToFloat16],
    ["bfloat16", 8, bfloat16ToFloat32, float32ToBfloat16],
  ] as const
) {
  const expected = Array.from(ALL, (bits) => valueOf(bits, { exponentBits }));

  Deno.test(`${name}: all 65536 values widen exactly and narrow back to the same bits`, () => {
    const wide = widen(ALL);
    const back = narrow(wide);
    for (const [bits, value] of expected.entries()) {
      assert.ok(Object.is(wide[bits], value), `bits ${bits}`);
      if (Number.isNaN(value)) assert.ok(Number.isNaN(widen(back.subarray(bits, bits + 1))[0]));
      else assert.equal(back[bits], bits);
    }
  });

  Deno.test(`${name}: narrowing rounds to nearest, ties to even, subnormals and overflow included`, () => {
    const infinity = ((2 ** exponentBits - 1) << (15 - exponentBits)) >>> 0;
    const samples: number[] = [];
    const bits: number[] = [];
    for (let low = 0; low < infinity; low++) {
      const a = expected[low] ?? NaN;
      // The midpoint to the value after the largest is where rounding turns to infinity.
      const b = low + 1 === infinity
        ? a + (a - (expected[low - 1] ?? NaN))
        : expected[low + 1] ?? NaN;
      const middle = (a + b) / 2;
      const [below, above] = neighbours(middle);
      samples.push(middle, below, above, -middle, -below, -above);
      const even = low % 2 === 0 ? low : low + 1;
      bits.push(even, low, low + 1, even | 0x8000, low | 0x8000, (low + 1) | 0x8000);
    }
    assert.deepEqual(narrow(Float32Array.from(samples)), Uint16Array.from(bits));
  });
}

/** The float32 values just below and above a positive float32 value. */
function neighbours(value: number): [number, number] {
  const float = Float32Array.of(value, value);
  const words = new Uint32Array(float.buffer);
  words[0] = (words[0] ?? 0) - 1;
  words[1] = (words[1] ?? 0) + 1;
  return [float[0] ?? NaN, float[1] ?? NaN];
}

Deno.test("bfloat16: a NaN whose payload lies in the dropped bits stays NaN", () => {
  const payload = new Float32Array(Uint32Array.of(0x7f800001, 0xff800001).buffer);
  assert.deepEqual(float32ToBfloat16(payload), Uint16Array.of(0x7fc0, 0xffc0));
});

Deno.test("conversions read the view they are given, not its whole buffer", () => {
  const bits = Uint16Array.of(0, 0x3c00, 0x3f80, 0).subarray(1, 3);
  assert.equal(float16ToFloat32(bits)[0], 1);
  assert.equal(bfloat16ToFloat32(bits)[1], 1);
  const values = Float32Array.of(5, 1, 5).subarray(1, 2);
  assert.deepEqual(float32ToFloat16(values), Uint16Array.of(0x3c00));
  assert.deepEqual(float32ToBfloat16(values), Uint16Array.of(0x3f80));
});

Deno.test("toFloat32 rounds float64, keeps float32, refuses integers", () => {
  const tensor = float32([1, 2], [2, 1]);
  assert.equal(toFloat32(tensor), tensor);
  const double = toFloat32({ dtype: "float64", shape: [1], data: Float64Array.of(0.1) });
  assert.deepEqual(double, float32([Math.fround(0.1)]));
  assert.throws(() => toFloat32(int64([1])), /dtype int64; expected float32/);
});
