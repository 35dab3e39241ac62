import assert from "node:assert/strict";
import { Builder, type DType } from "../autodiff/mod.ts";
import { WeightScope } from "./weight_scope.ts";

/** A state dict whose every weight is [1, 4, 2] or [4, 2] of one dtype. */
const scopeOf = (dtype: DType, shape: readonly number[]) =>
  new WeightScope(new Builder(), {
    has: () => true,
    get: () => ({ file: "model.bin", dtype, shape, offset: 0 }),
  });

for (const dtype of ["int8", "uint8", "int32", "int64", "bool"] as const) {
  Deno.test(`a weight of ${dtype} is refused: as floats it would lack a scale`, () => {
    const message = new RegExp(
      `model.bin: weight "w" is ${dtype}, expected one of float32, float16`,
    );
    const s = scopeOf(dtype, [4, 2]);
    assert.throws(() => s.get("w", [4, 2]), message);
    assert.throws(() => s.rows("w", [4, 2], { start: 0, end: 2 }), message);
    const grid = { height: 2, width: 2, channels: 2 };
    assert.throws(
      () => scopeOf(dtype, [1, 4, 2]).grid("w", grid, { rows: [0, 1], columns: [0, 1] }),
      message,
    );
  });
}

Deno.test("weights of every float dtype are read as float32", () => {
  for (const dtype of ["float32", "float16", "bfloat16", "float64"] as const) {
    assert.equal(scopeOf(dtype, [4, 2]).get("w", [4, 2]).dtype, "float32");
  }
});
