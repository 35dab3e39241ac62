import assert from "node:assert/strict";
import { evaluate } from "../tests/autodiff/mod.ts";
import { Builder, type DType, float32, gradient, type Value } from "../autodiff/mod.ts";
import { type Precision } from "./target.ts";
import { graphCost } from "./cost.ts";
import { PLAIN_POLICY, type Policy } from "./policy.ts";
import { runnable } from "./runnable.ts";
import { scaledGradient } from "./scaled_gradient.ts";
import { serialize } from "./serialize.ts";

const float = (...shape: number[]) => ({ dtype: "float32" as const, shape });
const HALF: Policy = { ...PLAIN_POLICY, precision: "float16" };
const differentiable = () => new Builder({ differentiable: true });

/** Nodes as the runtime gets them: operator, and dtype of the result. */
function nodesOf(
  b: Builder,
  outputs: readonly Value[],
  policy = HALF,
): readonly string[] {
  return runnable(b, outputs, policy).graph.nodes.map(({ op, outputs: [y] }) =>
    `${op} ${y?.dtype}`
  );
}

function weight(b: Builder, name: string, dtype: DType): Value {
  return b.cast(b.weight(name, { dtype, shape: [8, 8] }, { file: name, offset: 0 }), "float32");
}

Deno.test("products are float16, what only moves or combines follows, the rest is float32", () => {
  const b = differentiable();
  const x = b.input("x", float(4, 8));
  const product = b.gemm(x, weight(b, "w", "float16"), { transB: true });
  const moved = b.add(b.reshape(b.transpose(product, [1, 0]), [4, 8]), b.mul(product, 2));
  // Two that read it in float32 share one cast, and what follows float32 stays there.
  const sum = b.add(b.exp(moved), b.sqrt(moved));
  const again = b.matMul(sum, weight(b, "w", "float16"));
  assert.deepEqual(nodesOf(b, [b.sigmoid(again), moved]), [
    "Cast float16",
    "Gemm float16",
    "Transpose float16",
    "Reshape float16",
    "Mul float16",
    "Add float16",
    "Cast float32",
    "Exp float32",
    "Sqrt float32",
    "Add float32",
    "Cast float16",
    "MatMul float16",
    "Sigmoid float16",
    "Cast float32",
  ]);
  const { outputs, graph } = runnable(b, [again, moved], HALF);
  assert.deepEqual([...outputs, ...graph.inputs].map(({ dtype }) => dtype), [
    "float32",
    "float32",
    "float32",
  ]);
  const plain = new Builder();
  const y = plain.matMul(plain.input("x", float(4, 8)), weight(plain, "w", "float32"));
  assert.deepEqual(nodesOf(plain, [y], PLAIN_POLICY), ["MatMul float32"]);
});

Deno.test("a weight in float16 is read as it lies, another is cast once, whatever reads it", () => {
  for (const [dtype, casts] of [["float16", 0], ["float32", 1], ["bfloat16", 1]] as const) {
    const b = differentiable();
    const x = b.input("x", float(4, 8));
    const w = weight(b, "w", dtype);
    const y = b.gemm(b.gemm(x, w, { transB: true }), b.transpose(w, [1, 0]));
    const cotangent = b.input("cotangent", y);
    const { graph } = runnable(b, [y, ...gradient(b, [{ value: y, cotangent }], [x])], HALF);
    const ofWeights = graph.nodes.filter(({ op, inputs: [v] }) =>
      op === "Cast" && v?.source.kind === "weight"
    );
    assert.equal(ofWeights.length, casts, dtype);
    for (const { outputs: [v] } of ofWeights) assert.equal(v?.dtype, "float16");
  }
});

Deno.test("a constant that float16 does not hold keeps what reads it in float32", async () => {
  const b = differentiable();
  const x = b.input("x", float(1, 2));
  const one = b.constant(float32([1, 0, 0, 1], [2, 2]));
  const product = b.matMul(x, one);
  const outputs = Object.fromEntries(
    [1e5, 1e-6, 2, -Infinity].map((n) => [String(n), b.mul(product, n)]),
  );
  assert.deepEqual(
    runnable(b, Object.values(outputs), HALF).graph.nodes.filter(({ op }) => op === "Mul")
      .map(({ outputs: [y] }) => y?.dtype),
    ["float32", "float32", "float16", "float16"],
  );
  const [found] = await evaluate(serialize(b, outputs, { policy: HALF }), [{
    x: float32([1, 4], [1, 2]),
  }]);
  assert.deepEqual([...found?.["100000"]?.data ?? []], [1e5, 4e5]);
  assert.deepEqual([...found?.["0.000001"]?.data ?? []], [1e-6, 4e-6].map(Math.fround));
});

Deno.test("gradients of parameters are sums over all rows, in float32", () => {
  const b = differentiable();
  const x = b.input("x", float(4, 8));
  const [a, up] = [b.input("a", float(2, 8)), b.input("up", float(8, 2))];
  const y = b.gemm(b.gemm(x, a, { transB: true }), up, { transB: true });
  const cotangent = b.input("cotangent", y);
  const gradients = gradient(b, [{ value: y, cotangent }], [a, up, x]);
  const { outputs } = runnable(b, gradients, HALF);
  const made = outputs.map(({ source }) => source.kind === "node" ? source.node.op : "");
  assert.deepEqual(made, ["Gemm", "Gemm", "Cast"]);
});

Deno.test("a product that is one number is a sum over all positions, in float32; other fused ones are float16", async () => {
  const b = differentiable();
  const [x, y] = [b.input("x", float(1, 4096)), b.input("y", float(2, 4096))];
  const one = b.fusedMatMul(x, x, { transB: true });
  const two = b.fusedMatMul(x, y, { transB: true, alpha: 0.5 });
  assert.deepEqual(nodesOf(b, [one, two]), [
    "FusedMatMul float32",
    "Cast float16",
    "Cast float16",
    "FusedMatMul float16",
    "Cast float32",
  ]);
  // 4,096 squares of 5 are 102,400, above the 65,504 that float16 holds.
  const feeds = {
    x: float32(new Float32Array(4096).fill(5), [1, 4096]),
    y: float32(new Float32Array(8192).fill(1), [2, 4096]),
  };
  const [found] = await evaluate(serialize(b, { one, two }, { policy: HALF }), [feeds]);
  assert.deepEqual(found?.one, float32([102_400], [1, 1]));
  assert.deepEqual(found?.two, float32([10_240, 10_240], [1, 2]));
});

Deno.test("loops, and what they read from around them, are float32", async () => {
  const sines = (size: number) => Float32Array.from({ length: size }, (_, i) => Math.sin(i * i));
  const feeds = { q: float32(sines(128), [1, 16, 8]), cotangent: float32(sines(128), [1, 16, 8]) };
  const found = async (precision: Precision) => {
    const b = differentiable();
    const policy = { ...PLAIN_POLICY, precision, attentionMemory: 0 };
    const q = b.input("q", float(1, 16, 8));
    const rows = b.linear(q, b.constant(float32(sines(64), [8, 8])));
    const y = b.attention(rows, rows, rows, { heads: 2 });
    const [dq = y] = gradient(b, [{ value: y, cotangent: b.input("cotangent", y) }], [q]);
    const loops = nodesOf(b, [y, dq], policy).filter((node) => node.startsWith("Scan"));
    assert.deepEqual(loops, ["Scan float32", "Scan float32"]);
    const [out] = await evaluate(serialize(b, { y, dq }, { policy }), [feeds]);
    return Object.values(out ?? {}).map(({ data }) => Array.from(data, Number));
  };
  const [actual, expected] = [await found("float16"), await found("float32")];
  for (const [i, values] of expected.entries()) {
    const largest = Math.max(...values.map(Math.abs));
    for (const [k, v] of values.entries()) {
      assert.ok(Math.abs((actual[i]?.[k] ?? NaN) - v) <= 4e-3 * largest, `${i}: [${k}]`);
    }
  }
});

Deno.test("what passes between products takes half of the memory", () => {
  const bytes = (policy: Policy) => {
    const b = new Builder();
    let y: Value = b.input("x", float(64, 64));
    const w = b.weight("w", float(64, 64), { file: "w", offset: 0 });
    for (let i = 0; i < 4; i++) y = b.gelu(b.matMul(y, w));
    return graphCost(b, [b.slice(y, { axis: 0, start: 0, end: 1 })], { fold: true, policy });
  };
  const [whole, halved] = [bytes(PLAIN_POLICY), bytes(HALF)];
  // The input stays in float32.
  const input = 4 * 64 * 64;
  assert.equal(halved.activationBytes - input, (whole.activationBytes - input) / 2);
  assert.equal(halved.weightBytes + halved.foldedBytes, whole.weightBytes / 2);
});

Deno.test("cotangents are scaled together, to a largest entry of 1, and their gradients back", async () => {
  const b = differentiable();
  const x = b.input("x", float(1, 2));
  const seeds = ["first", "second"].map((name) => {
    const value = b.matMul(x, b.constant(float32([1, 2, 3, 4], [2, 2])));
    return { value, cotangent: b.input(name, value) };
  });
  const [dx] = scaledGradient(b, seeds, { wrt: [x], precision: "float16" });
  assert.ok(dx);
  const row = (...values: number[]) => float32(values, [1, 2]);
  const zero = row(0, 0);
  const runs = [[row(1e-9, 2e-9), row(0, 1e-9)], [zero, row(1e30, -1e30)], [zero, zero]] as const;
  const results = await evaluate(
    serialize(b, { dx }, { policy: HALF }),
    runs.map(([first, second]) => ({ x: row(1, 1), first, second })),
  );
  // (first + second) Wᵀ, to three digits.
  const expected = [[1e-9 + 6e-9, 3e-9 + 12e-9], [1e30 - 2e30, 3e30 - 4e30], [0, 0]];
  for (const [i, values] of expected.entries()) {
    for (const [k, v] of values.entries()) {
      const found = Number(results[i]?.dx?.data[k]);
      assert.ok(Math.abs(found - v) <= 1e-3 * Math.abs(v), `${i}: ${found}, expected ${v}`);
    }
  }
});
