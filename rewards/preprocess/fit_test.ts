import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Builder, float32, gradient } from "../../autodiff/mod.ts";
import { serialize } from "../../compile/mod.ts";
import { Random } from "../../models/random/mod.ts";
import { openSafetensors } from "../../models/weights/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import { close } from "../_test_close.ts";
import { fitImages, fitPlane, FITS, fitUint8, resizeTaps } from "./mod.ts";

// Made by testdata/make_fits.py with Pillow and torchvision.
const CASES = openSafetensors(
  fileURLToPath(new URL("../testdata/fits.safetensors", import.meta.url)),
);
const RESAMPLES = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] as const;

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

Deno.test("fitUint8() of a part is the part of the whole, whoever resizes", () => {
  const random = new Random(7);
  const upTo = (n: number) => 1 + Math.floor(n * random.uniform());
  for (let i = 0; i < 150; i++) {
    const [height, width, size] = [upTo(70), upTo(70), upTo(40)];
    const data = Uint8Array.from({ length: 3 * height * width }, () => 256 * random.uniform());
    const resample = RESAMPLES[i % RESAMPLES.length] ?? "bicubic";
    const fit = FITS[upTo(FITS.length) - 1] ?? "crop";
    const { rows, columns } = fitPlane({ height, width }, { fit, size, resample });
    if (rows.to < 1 || columns.to < 1) continue;
    const whole = {
      rows: { ...rows, offset: 0, size: rows.to },
      columns: { ...columns, offset: 0, size: columns.to },
    };
    for (const resizer of ["pillow", "torchvision"] as const) {
      const all = fitUint8({ height, width, data }, whole, resizer);
      const cut = Uint8Array.from({ length: 3 * size * size }, (_, k) => {
        const [line, x] = [Math.floor(k / size), k % size + columns.offset];
        const [channel, y] = [Math.floor(line / size), line % size + rows.offset];
        const isInside = y >= 0 && y < rows.to && x >= 0 && x < columns.to;
        return isInside ? all.data[(channel * rows.to + y) * columns.to + x] ?? 0 : 0;
      });
      const fitted = fitUint8({ height, width, data }, { rows, columns }, resizer);
      const name = `${fit} ${resample} ${height}x${width} to ${size}, ${resizer}`;
      assert.deepEqual(fitted, { height: size, width: size, data: cut }, name);
    }
  }
});

Deno.test("fitUint8() takes as many bits of a weight as the largest of all samples leaves", () => {
  for (const [from, to] of [[64, 40], [40, 64], [33, 32], [7, 5], [300, 7], [5, 1]] as const) {
    for (const resample of RESAMPLES) {
      // The middle sample alone: its weights say less than those of all.
      const columns = { from, to, resample, offset: Math.floor(to / 2), size: 1 };
      const rows = { from: 1, to: 1, offset: 0, size: 1 };
      const data = Uint8Array.from({ length: 3 * from }, (_, i) => (i * 89) % 256);
      const { data: [found] } = fitUint8(
        { height: 1, width: from, data },
        { rows, columns },
        "torchvision",
      );
      let largest = 0;
      for (let i = 0; i < to; i++) {
        largest = Math.max(largest, ...resizeTaps(i, { from, to, resample }).weights);
      }
      let bits = 22;
      while (Math.trunc(0.5 + largest * 2 ** bits) >= 2 ** 15) bits--;
      const { first, weights } = resizeTaps(columns.offset, { from, to, resample });
      const sum = weights.reduce((sum, w, k) => {
        return sum + Math.trunc(w * 2 ** bits + Math.sign(w) / 2) * (data[first + k] ?? 0);
      }, 2 ** (bits - 1));
      assert.equal(found, Math.min(Math.max(sum >> bits, 0), 255), `${resample} ${from} to ${to}`);
    }
  }
});

Deno.test("fitUint8() computes nothing of a long line but what is left of it", () => {
  // 8,388,608 samples wide before the cut, 26 GB: no array is as long.
  const image = { height: 1, width: 8192, data: new Uint8Array(3 * 8192).fill(7) };
  for (const resizer of ["pillow", "torchvision"] as const) {
    for (const resample of ["bilinear", "bicubic"] as const) {
      const plane = fitPlane(image, { fit: "crop", size: 1024, resample });
      const { height, width, data } = fitUint8(image, plane, resizer);
      assert.deepEqual([height, width, data.length], [1024, 1024, 3 * 2 ** 20]);
      assert.ok(data.every((value) => value === 7));
    }
  }
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
