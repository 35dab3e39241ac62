import assert from "node:assert/strict";
import {
  Builder,
  DIFFERENTIABLE_OPS,
  float64,
  gradient,
  GradientError,
  int,
  serialize,
  type Tensor,
} from "../../autodiff/mod.ts";
import { checkGradient, GRADIENT_TOLERANCE } from "../../autodiff/testing/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import { OP_CASES } from "./op_cases.ts";

async function run(bytes: Uint8Array, feeds: Readonly<Record<string, Tensor>>) {
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const session = await engine.load({ bytes }, {
      intraOpNumThreads: 1,
      // Above "basic", x sigmoid(x) in float64 is fused into a kernel that takes float32 only.
      graphOptimizationLevel: "basic",
    });
    return await session.run({ ...feeds });
  } finally {
    await engine.close();
  }
}

/** Rounding is all that is left where the central difference is exact. */
const EXACT_STEP_TOLERANCE = 2e-5;

Deno.test("every gradient rule agrees with a central difference", async (t) => {
  for (const c of OP_CASES) {
    await t.step(`${c.op} ${c.note}`.trim(), async () => {
      const { relativeError, difference, product, shape } = await checkGradient(c, run);
      const b = new Builder();
      const inputs = Object.fromEntries(
        Object.entries(c.inputs).map((
          [n, { shape }],
        ) => [n, b.input(n, { dtype: c.dtype ?? "float64", shape })]),
      );
      assert.deepEqual([...shape], [...c.build(b, inputs).shape], "inferred shape");
      const tolerance = c.step === undefined
        ? GRADIENT_TOLERANCE[c.dtype ?? "float64"].tolerance
        : EXACT_STEP_TOLERANCE;
      assert.ok(Math.abs(product) > 1e-6, `the product is ${product}: nothing is checked`);
      assert.ok(
        relativeError < tolerance,
        `difference ${difference}, product ${product}: ${relativeError}`,
      );
    });
  }
});

Deno.test("every operator with a rule has a case", () => {
  // StraightThrough's gradient is by definition not the derivative: it has a test of its own.
  const covered = new Set<string>([...OP_CASES.map((c) => c.op), "StraightThrough"]);
  assert.deepEqual(DIFFERENTIABLE_OPS.filter((op) => !covered.has(op)), []);
});

Deno.test("attention in blocks of queries is plain attention", async () => {
  const build = (attentionMemory: number) => {
    const b = new Builder({ differentiable: true, attentionMemory });
    const [q, k, v] = ["q", "k", "v"].map((n, i) =>
      b.input(n, { dtype: "float64", shape: [2, i === 0 ? 6 : 5, 8] })
    );
    assert.ok(q && k && v);
    const y = b.attention(q, k, v, { heads: 2 });
    const cotangent = b.input("cotangent", y);
    const [dq, dk, dv] = gradient(b, [{ value: y, cotangent }], [q, k, v]);
    assert.ok(dq && dk && dv);
    return { ops: b.nodes.map((n) => n.op), bytes: serialize(b, { y, dq, dk, dv }) };
  };
  const numbers = (n: number, s: number) =>
    Float64Array.from({ length: n }, (_, i) => Math.sin(i * s + s));
  const feeds = {
    q: float64(numbers(96, 0.37), [2, 6, 8]),
    k: float64(numbers(80, 0.53), [2, 5, 8]),
    v: float64(numbers(80, 0.71), [2, 5, 8]),
    cotangent: float64(numbers(96, 0.91), [2, 6, 8]),
  };
  const [plain, blocks] = [build(Infinity), build(0)];
  assert.ok(!plain.ops.includes("Attention") && blocks.ops.includes("Attention"));
  const [a, b] = [await run(plain.bytes, feeds), await run(blocks.bytes, feeds)];
  for (const name of ["y", "dq", "dk", "dv"]) {
    const [x, y] = [a[name], b[name]];
    assert.ok(x && y);
    x.data.forEach((value: number | bigint, i: number) => {
      assert.ok(Math.abs(Number(value) - Number(y.data[i])) < 1e-13, `${name}[${i}]`);
    });
  }
});

Deno.test("no gradient flows through stopGradient, and straightThrough passes it on", async () => {
  const b = new Builder({ differentiable: true });
  const x = b.input("x", { dtype: "float64", shape: [3] });
  const y = b.add(b.mul(x, b.stopGradient(x)), b.straightThrough(x, b.round(x)));
  const [dx] = gradient(b, [{ value: y, cotangent: b.fill(1, y) }], [x]);
  assert.ok(dx);
  const out = await run(serialize(b, { y, dx }), { x: float64([0.4, 1.6, -2.7]) });
  // y = x·x + round(x); dy = x + 1.
  const expected = { y: [0.16, 4.56, 4.29], dx: [1.4, 2.6, -1.7] };
  for (const [name, numbers] of Object.entries(expected)) {
    numbers.forEach((v, i) => assert.ok(Math.abs(Number(out[name]?.data[i]) - v) < 1e-12, name));
  }
});

Deno.test("gradients of a value used several times add up, and nodes off the path are left alone", async () => {
  const b = new Builder({ differentiable: true });
  const [x, z] = [
    b.input("x", { dtype: "float64", shape: [2] }),
    b.input("z", { dtype: "float64", shape: [2] }),
  ];
  const shared = b.mul(x, 3);
  const y = b.add(b.add(b.mul(shared, shared), shared), b.exp(z));
  const before = b.nodes.length;
  const [dx] = gradient(b, [{ value: y, cotangent: b.fill(1, y) }], [x]);
  assert.ok(dx);
  assert.ok(!b.nodes.slice(before).some((n) => n.op === "Exp" || n.inputs.includes(z)));
  const out = await run(serialize(b, { dx }), { x: float64([1, -2]), z: float64([0, 0]) });
  // d(9x² + 3x) = 18x + 3
  assert.deepEqual([...(out["dx"]?.data ?? [])].map(Number), [21, -33]);
});

Deno.test("an operator without a rule is an error that names it, its node and the way there", () => {
  const b = new Builder({ differentiable: true });
  const x = b.input("x", { dtype: "float64", shape: [4] });
  const y = b.scope("head", () => b.call("CumSum", [b.scope("body", () => b.exp(x)), b.ints([0])]));
  assert.throws(
    () => gradient(b, [{ value: y, cotangent: b.fill(1, y) }], [x]),
    (error) =>
      error instanceof GradientError &&
      /Operator CumSum has no gradient rule \(node head\/CumSum; reached from x -> head\/body\/Exp\)/
        .test(error.message),
  );
});

Deno.test("what the result does not depend on is an error, or zero where asked for", () => {
  const b = new Builder({ differentiable: true });
  const [x, z] = [
    b.input("x", { dtype: "float64", shape: [4] }),
    b.input("z", { dtype: "float64", shape: [2] }),
  ];
  const y = b.exp(x);
  const seeds = [{ value: y, cotangent: b.fill(1, y) }];
  assert.throws(() => gradient(b, seeds, [z]), /No gradient reaches "z"/);
  const [dz] = gradient(b, seeds, [z], { unreached: "zero" });
  assert.deepEqual(dz?.shape, [2]);
  const steps = b.round(x);
  assert.throws(
    () => gradient(b, [{ value: steps, cotangent: b.fill(1, steps) }], [x]),
    /No gradient reaches "x"/,
  );
  const n = b.input("n", { dtype: "int64", shape: [1] });
  assert.throws(() => gradient(b, seeds, [n]), /"n" is int64; gradients need a float/);
  assert.throws(
    () => gradient(b, [{ value: y, cotangent: b.fill(1, { dtype: "float64", shape: [3] }) }], [x]),
    /Cotangent of "Exp" is float64\[3\], expected float64\[4\]/,
  );
});

Deno.test("types that do not fit are errors that name the node", () => {
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [2, 3] });
  const y = b.input("y", { dtype: "float32", shape: [4, 5] });
  assert.throws(
    () => b.scope("a", () => b.matMul(x, y)),
    /a\/MatMul\(float32\[2,3\], float32\[4,5\]\): Inner dimensions differ: 3 and 4/,
  );
  assert.throws(
    () => b.add(x, y),
    /Add\(float32\[2,3\], float32\[4,5\]\): Shapes \[2,3\] and \[4,5\] do not broadcast/,
  );
  assert.throws(() => b.call("Softmax", [x], { axis: int(2) }), /Axis 2 is outside -2\.\.1/);
  assert.throws(() => b.input("x", x), /Input name "x" is already taken/);
  assert.throws(() => new Builder().exp(x), /belongs to another graph/);
});

Deno.test("a model's outputs have the names asked for, whatever they are", async () => {
  const b = new Builder();
  const x = b.input("x", { dtype: "float64", shape: [2] });
  b.input("unused", { dtype: "float64", shape: [1] });
  const y = b.add(x, 1);
  const out = await run(serialize(b, { a: y, b: y, c: x, d: b.scalar(7, "float64") }), {
    x: float64([1, 2]),
    unused: float64([0]),
  });
  const found = Object.fromEntries(
    Object.entries(out).map(([n, t]) => [n, [...t.data].map(Number)]),
  );
  assert.deepEqual(found, { a: [2, 3], b: [2, 3], c: [1, 2], d: [7] });
  assert.throws(() => serialize(b, { x: y }), /Output name "x" is taken by an input/);
  assert.throws(() => serialize(b, {}), /at least one output/);
});
