import assert from "node:assert/strict";
import { float32, float64, int64, type Tensor } from "../autodiff/mod.ts";
import { assertFinite } from "./assert_finite.ts";
import { NumericalError } from "./errors.ts";

const bits = (dtype: "float16" | "bfloat16", ...data: number[]): Tensor => ({
  dtype,
  shape: [data.length],
  data: Uint16Array.from(data),
});

Deno.test("finite tensors of every kind pass", () => {
  assertFinite("t", float32([0, -0, 3.4e38]));
  assertFinite("t", float64([1.7e308]));
  assertFinite("t", bits("float16", 0x7bff, 0xfbff)); // ±65504, the largest
  assertFinite("t", bits("bfloat16", 0x7f7f, 0x7c00)); // 0x7c00 is finite as bfloat16
  assertFinite("t", int64([1]));
});

Deno.test("the first non-finite element is named", () => {
  assert.throws(() => assertFinite("grad", float32([1, 2, 3, 4, NaN, Infinity], [1, 2, 3])), {
    name: "NumericalError",
    code: "non_finite",
    message: "Tensor 'grad' holds NaN at [0, 1, 1] of shape [1, 2, 3]",
    at: { tensor: "grad", index: 4, value: NaN },
  });
  const found = (tensor: Tensor): number | undefined => {
    try {
      assertFinite("t", tensor);
    } catch (error) {
      assert(error instanceof NumericalError);
      assert.equal(error.at.index, 1);
      return error.at.value;
    }
  };
  assert.equal(found(float64([0, -Infinity])), -Infinity);
  assert.equal(found(bits("float16", 0, 0x7c00)), Infinity);
  assert.equal(found(bits("float16", 0, 0xfe00)), NaN);
  assert.equal(found(bits("bfloat16", 0, 0xff80)), -Infinity);
  assert.equal(found(bits("bfloat16", 0, 0x7f81)), NaN);
});
