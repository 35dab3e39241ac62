import assert from "node:assert/strict";
import { attributesOf, Builder, float32, gradient, type Value } from "../../autodiff/mod.ts";
import { serialize } from "../../compile/mod.ts";
import { assertClose, withEngine } from "../../tests/models/mod.ts";
import { Random } from "../random/mod.ts";
import { mergedGemm, mergeIsCheaper, separateGemm } from "./_adapted_gemm.ts";

interface Sizes {
  readonly rows: number;
  readonly rank: number;
  readonly width: number;
  readonly out: number;
}

/** y and, for a differentiable builder, what reaches x, A and B from a cotangent. */
function build(
  form: typeof mergedGemm,
  { rows, rank, width, out }: Sizes,
  differentiable: boolean,
) {
  const b = new Builder({ differentiable });
  const input = (name: string, shape: number[]) => b.input(name, { dtype: "float32", shape });
  const [x, weight] = [input("x", [rows, width]), input("weight", [out, width])];
  const pair = {
    a: input("A", [rank, width]),
    b: input("B", [out, rank]),
    scale: 0.75,
    mayMerge: true,
  };
  const y = form(b, { x, weight, bias: input("bias", [out]), pair });
  const outputs: Record<string, Value> = { y };
  if (differentiable) {
    const cotangent = input("cotangent", [rows, out]);
    const [dx, da, db] = gradient(b, [{ value: y, cotangent }], [x, pair.a, pair.b]);
    assert.ok(dx && da && db);
    Object.assign(outputs, { dx, da, db });
  }
  return { b, outputs };
}

/** Multiplications in a graph's matrix products. */
function multiplications(b: Builder): number {
  let total = 0;
  for (const { op, inputs: [left], outputs: [y], attributes } of b.nodes) {
    if (op !== "Gemm" || left === undefined || y === undefined) continue;
    const inner = left.shape[attributesOf("Gemm", attributes).transA ? 0 : 1] ?? 0;
    total += inner * (y.shape[0] ?? 0) * (y.shape[1] ?? 0);
  }
  return total;
}

Deno.test("both forms give the same values and gradients", () =>
  withEngine(async (engine) => {
    const random = new Random(5);
    const sizes = { rows: 11, rank: 3, width: 7, out: 5 };
    const feeds = Object.fromEntries(
      build(mergedGemm, sizes, true).b.inputs.map(({ name, shape }) => {
        return [name, float32(random.normals(shape.reduce((a, b) => a * b)), shape)];
      }),
    );
    const run = async (form: typeof mergedGemm) => {
      const { b, outputs } = build(form, sizes, true);
      return await (await engine.load({ bytes: serialize(b, outputs) })).run(feeds);
    };
    const [separate, merged] = [await run(separateGemm), await run(mergedGemm)];
    // y = x (W + s B A)ᵀ + bias, summed here.
    const at = (name: string, i: number) => Number(feeds[name]?.data[i]);
    const y = new Float32Array(sizes.rows * sizes.out).map((_, k) => {
      const [row, o] = [Math.floor(k / sizes.out), k % sizes.out];
      let sum = at("bias", o);
      for (let i = 0; i < sizes.width; i++) {
        let w = at("weight", o * sizes.width + i);
        for (let r = 0; r < sizes.rank; r++) {
          w += 0.75 * at("B", o * sizes.rank + r) * at("A", r * sizes.width + i);
        }
        sum += at("x", row * sizes.width + i) * w;
      }
      return sum;
    });
    assertClose(separate.y, float32(y, [sizes.rows, sizes.out]), { tolerance: 1e-6, what: "y" });
    for (const what of ["y", "dx", "da", "db"]) {
      const expected = separate[what];
      assert.ok(expected);
      assertClose(merged[what], expected, { tolerance: 2e-6, what });
    }
  }));

Deno.test("the cheaper form is the one whose graph multiplies less", () => {
  let [merged, total] = [0, 0];
  for (const differentiable of [false, true]) {
    for (const rows of [16, 256, 4096]) {
      for (const rank of [1, 4, 16, 128]) {
        for (const [width, out] of [[64, 64], [320, 320], [768, 320], [1280, 1280]] as const) {
          const sizes = { rows, rank, width, out };
          const cost = (form: typeof mergedGemm) =>
            multiplications(build(form, sizes, differentiable).b);
          const cheaper = cost(mergedGemm) < cost(separateGemm);
          const what = JSON.stringify({ ...sizes, differentiable });
          assert.equal(mergeIsCheaper({ ...sizes, differentiable }), cheaper, what);
          merged += Number(cheaper);
          total++;
        }
      }
    }
  }
  assert.ok(merged > 0 && merged < total, `${merged} of ${total}`);
});
