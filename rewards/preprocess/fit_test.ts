import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Builder, float32, gradient } from "../../autodiff/mod.ts";
import { serialize } from "../../compile/mod.ts";
import { openSafetensors } from "../../models/weights/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import { close } from "../_test_close.ts";
import { fitImages, fitPlane, FITS, fitUint8, resizeTaps } from "./mod.ts";

// Made by testdata/make_fits.py with Pillow and torchvision.
const CASES = openSafetensors(
  fileURLToPath(new URL("../testdata/fits.safetensors", import.meta.url)),
);
function* cases() {
  for (const name of CASES.tensors.keys()) {
    const [fit, resample, height, width, size, part] = name.split(".");
    const known = FITS.find((f) => f === fit);
    if (part !== "image" || known === undefined) continue;
    assert.ok(resample === "bicubic" || resample === "bilinear");
    const [h, w] = [Number(height), Number(width)];
    const [n = NaN, m = n] = (size ?? "").split("x").map(Number);
    const target = n === m ? n : { height: n, width: m };
    const plane = fitPlane({ height: h, width: w }, { fit: known, size: target, resample });
    yield { name: name.slice(0, -".image".length), h, w, n, m, plane };
  }
}

async function bytesOf(name: string): Promise<Uint8Array> {
  const tensor = await CASES.read(name);
  assert.equal(tensor.dtype, "uint8");
  return tensor.data;
}

Deno.test("fitUint8() is Pillow's resize bit for bit", async () => {
  let count = 0;
  for (const { name, h, w, n, m, plane } of cases()) {
    const data = await bytesOf(`${name}.image`);
    const fitted = fitUint8({ height: h, width: w, data }, plane);
    assert.deepEqual(fitted, { height: n, width: m, data: await bytesOf(`${name}.pillow`) }, name);
    count++;
  }
  assert.equal(count, 72 + 36);
});

Deno.test("fitImages() is torchvision's antialiased resize, and its gradient the adjoint", async () => {
  const engine = await openEngine({ isolation: "in-process" });
  for (const { name, h, w, n, m, plane } of cases()) {
    const b = new Builder();
    const x = b.input("x", { dtype: "float32", shape: [1, 3, h, w] });
    const dy = b.input("dy", { dtype: "float32", shape: [1, 3, n, m] });
    const y = fitImages(b, x, plane);
    const [dx] = gradient(b, [{ value: y, cotangent: dy }], [x]);
    assert.ok(dx);
    const session = await engine.load({ bytes: serialize(b, { y, dx }) });
    const image = Float32Array.from(await bytesOf(`${name}.image`), (v) => v / 255);
    const exact = await CASES.readFloat32(`${name}.exact`);
    const out = await session.run({
      x: float32(image, [1, 3, h, w]),
      dy: float32(exact.data, [1, 3, n, m]),
    });
    assert.equal(out["y"]?.dtype, "float32");
    assert.equal(out["dx"]?.dtype, "float32");
    close(out["y"].data, exact.data, 1e-6);
    // <dx, x> = <dy, A x> for a linear map A.
    const [left, right] = [dot(out["dx"].data, image), dot(exact.data, exact.data)];
    close([left], [right], 1e-5 * right);
    await session.dispose();
  }
  await engine.close();
});

Deno.test("resizeTaps() sums to one and is the identity where nothing is resized", () => {
  for (const [from, to] of [[7, 7], [7, 3], [3, 7], [1, 5], [1000, 1]] as const) {
    for (let i = 0; i < to; i++) {
      const { first, weights } = resizeTaps(i, { from, to });
      assert.ok(first >= 0 && first + weights.length <= from);
      close([weights.reduce((a, w) => a + w, 0)], [1], 1e-12);
      if (from === to) assert.equal(weights[i - first], 1);
    }
  }
});

Deno.test("fitPlane() places a centre crop as torchvision or transformers do", () => {
  const at = (width: number, cropOffset: "torchvision" | "transformers") =>
    fitPlane({ height: 16, width }, { fit: "crop", size: 16, cropOffset }).columns.offset;
  assert.deepEqual([17, 18, 19, 20, 21].map((w) => at(w, "torchvision")), [0, 1, 2, 2, 2]);
  assert.deepEqual([17, 18, 19, 20, 21].map((w) => at(w, "transformers")), [0, 1, 1, 2, 2]);
});

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, v, i) => sum + v * (b[i] ?? 0), 0);
}
