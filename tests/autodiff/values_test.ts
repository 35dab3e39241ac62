import assert from "node:assert/strict";
import {
  Builder,
  float32,
  float64,
  gradient,
  type Tensor,
  type Value,
} from "../../autodiff/mod.ts";
import { serialize } from "../../compile/mod.ts";
import { numbersOf } from "../../compile/testing/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import { evaluate } from "./_evaluate.ts";

/** Outputs of a graph as plain numbers. */
async function run(
  b: Builder,
  outputs: Readonly<Record<string, Value>>,
  feeds: Readonly<Record<string, Tensor>>,
): Promise<Record<string, number[]>> {
  const [found = {}] = await evaluate(serialize(b, outputs), [feeds]);
  return Object.fromEntries(Object.entries(found).map(([name, t]) => [name, [...numbersOf(t)]]));
}

/** A builder, its input x, and the gradient of Σ y. */
function setting(values: readonly number[]) {
  const b = new Builder({ differentiable: true });
  const x = b.input("x", { dtype: "float64", shape: [values.length] });
  const slope = (y: Value): Value => {
    const [dx] = gradient(b, [{ value: y, cotangent: b.fill(1, y) }], [x]);
    assert(dx !== undefined);
    return dx;
  };
  return { b, x, slope, feeds: { x: float64(values) } };
}

Deno.test("stopGradient and straightThrough pass values on as they are", async () => {
  const { b, x, slope, feeds } = setting([0.4, 1.6, -2.7]);
  const y = b.add(b.mul(x, b.stopGradient(x)), b.straightThrough(x, b.round(x)));
  // y = x² + round(x), dy = x + 1
  const { y: found = [], dx = [] } = await run(b, { y, dx: slope(y) }, feeds);
  const close = (a: readonly number[], e: readonly number[]) =>
    assert(a.length === e.length && a.every((v, i) => Math.abs(v - (e[i] ?? NaN)) < 1e-12), `${a}`);
  close(found, [0.16, 4.56, 4.29]);
  close(dx, [1.4, 2.6, -1.7]);
});

Deno.test("gradients of a value that is used several times add up", async () => {
  const { b, x, slope, feeds } = setting([1, -2]);
  const shared = b.mul(x, 3);
  const y = b.add(b.mul(shared, shared), shared);
  // d(9x² + 3x) = 18x + 3
  assert.deepEqual((await run(b, { dx: slope(y) }, feeds))["dx"], [21, -33]);
});

Deno.test("a gradient can be differentiated again", async () => {
  const { b, x, slope, feeds } = setting([0.5, -1.5, 2]);
  const dx = slope(b.mul(b.mul(x, x), x));
  // d²x³ = 6x
  assert.deepEqual((await run(b, { ddx: slope(dx) }, feeds))["ddx"], [3, -9, 12]);
});

Deno.test("at kinks and ties gradients are one of the subgradients", async () => {
  const { b, x, slope, feeds } = setting([-1, 0, 1]);
  const bounds = [b.scalar(-1, "float64"), b.scalar(0, "float64")];
  const norm = b.l2Norm(b.mul(x, 0), { keepDims: false });
  const found = await run(b, {
    relu: slope(b.relu(x)),
    abs: slope(b.abs(x)),
    clip: slope(b.call("Clip", [x, ...bounds])),
    norm: slope(norm),
    max: slope(b.maxOf(b.mul(x, x), { keepDims: false })),
    same: slope(b.max(x, x)),
    several: slope(b.call("Min", [x, b.mul(x, 3), x])),
  }, feeds);
  const positive = Object.fromEntries(
    Object.entries(found).map(([name, list]) => [name, list.map((v) => v + 0)]),
  );
  assert.deepEqual(positive, {
    relu: [0, 0, 1],
    abs: [-1, 0, 1],
    clip: [1, 1, 0],
    norm: [0, 0, 0],
    // Two attain the maximum and share: x² at -1 and 1.
    max: [-1, 0, 1],
    same: [1, 1, 1],
    // At 0 the first of three takes it all.
    several: [3, 1, 1],
  });
});

Deno.test("outputs have the values their names were given to", async () => {
  const { b, x, feeds } = setting([1, 2]);
  b.input("unused", { dtype: "float64", shape: [1] });
  const y = b.add(x, 1);
  const outputs = { a: y, b: y, c: x, d: b.scalar(7, "float64"), Add: b.mul(y, 2) };
  assert.deepEqual(await run(b, outputs, { ...feeds, unused: float64([0]) }), {
    a: [2, 3],
    b: [2, 3],
    c: [1, 2],
    d: [7],
    Add: [4, 6],
  });
});

Deno.test("constants of every dtype survive the way through a model", async () => {
  const b = new Builder();
  const numbers = [0, 1, 2, 100];
  const dtypes = ["float32", "float64", "float16", "int64", "int32", "int8", "uint8"] as const;
  const outputs = Object.fromEntries(
    dtypes.map((dtype) => [dtype, b.cast(b.table(numbers, { dtype, shape: [4] }), "float64")]),
  );
  const truth = b.cast(b.table([0, 3], { dtype: "bool", shape: [2] }), "float64");
  const brain = b.cast(b.table([1.5, -3], { dtype: "bfloat16", shape: [2] }), "float64");
  const found = await run(b, { ...outputs, truth, brain }, {});
  for (const dtype of dtypes) assert.deepEqual(found[dtype], numbers, dtype);
  assert.deepEqual(found["truth"], [0, 1]);
  assert.deepEqual(found["brain"], [1.5, -3]);
});

Deno.test("weights that lie unaligned in a file are read where they lie", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const bytes = new Uint8Array(3 + 12);
    bytes.set(new Uint8Array(Float32Array.of(1.5, -2, 3).buffer), 3);
    await Deno.writeFile(`${folder}/w.bin`, bytes);
    const b = new Builder();
    const x = b.input("x", { dtype: "float32", shape: [3] });
    const w = b.weight("w", { dtype: "float32", shape: [3] }, { file: "w.bin", offset: 3 });
    const engine = await openEngine({ isolation: "in-process" });
    const model = { bytes: serialize(b, { y: b.mul(x, w) }), weightsRoot: folder };
    const session = await engine.load(model, { intraOpNumThreads: 1 });
    const { y } = await session.run({ x: float32([1, 2, 3]) });
    assert.deepEqual([...(y?.data ?? [])], [1.5, -4, 9]);
    await engine.close();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a root of 0 has no slope, so that a norm of nothing is no NaN", async () => {
  const b = new Builder({ differentiable: true });
  const x = b.input("x", { dtype: "float32", shape: [2, 2] });
  const sums = b.sum(b.mul(x, x), { axes: [1], keepDims: false });
  const y = b.add(b.sqrt(sums), b.pow(sums, 0.5));
  const [dx] = gradient(b, [{ value: y, cotangent: b.fill(1, y) }], [x]);
  assert(dx !== undefined);
  const [found] = await evaluate(serialize(b, { dx }), [{ x: float32([0, 0, 3, 4], [2, 2]) }]);
  assert.deepEqual(
    numbersOf(found?.["dx"] ?? float32([])),
    new Float64Array([0, 0, 1.2, 1.6].map(Math.fround)),
  );
});
