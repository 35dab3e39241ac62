import assert from "node:assert/strict";
import { Builder, float32, gradient, type Tensor } from "../../autodiff/mod.ts";
import { serialize } from "../../compile/mod.ts";
import { evaluate } from "./_evaluate.ts";

const flag = (value: boolean): Tensor => ({
  dtype: "bool",
  shape: [],
  data: Uint8Array.of(value ? 1 : 0),
});

Deno.test("a gradient inside a branch is computed where it is asked for", async () => {
  const b = new Builder({ differentiable: true });
  const x = b.input("x", { dtype: "float32", shape: [2, 3] });
  const y = b.mul(b.silu(x), x);
  const [dx = y] = b.either(b.input("wanted", { dtype: "bool", shape: [] }), {
    yes: (into) => {
      const cotangent = into.fill(1, y);
      return gradient(b, [{ value: y, cotangent }], [x], { into });
    },
    no: (into) => [into.expand(into.scalar(-7, "float32"), x.shape)],
  });
  const data = [-2, -1, -0.5, 0, 0.5, 3];
  const fed = float32(Float32Array.from(data), [2, 3]);
  const model = serialize(b, { y, dx });
  const [on, off] = await evaluate(model, [
    { x: fed, wanted: flag(true) },
    { x: fed, wanted: flag(false) },
  ]);
  assert.deepEqual(off?.["dx"]?.data, new Float32Array(6).fill(-7));
  assert.deepEqual(off?.["y"], on?.["y"]);
  for (const [i, v] of data.entries()) {
    const s = 1 / (1 + Math.exp(-v));
    // d x² s(x) = 2 x s + x² s (1 - s)
    assert.ok(Math.abs(Number(on?.["dx"]?.data[i]) - (2 * v * s + v * v * s * (1 - s))) < 2e-6);
  }
});

Deno.test("what a branch hands on may be a value of the graph around it, or one value twice", async () => {
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [2] });
  const twice = b.add(x, x);
  const [p = x, q = x] = b.either(b.input("first", { dtype: "bool", shape: [] }), {
    yes: () => [twice, twice],
    no: (into) => [x, into.neg(x)],
  });
  const fed = float32(Float32Array.of(1, 2), [2]);
  const model = serialize(b, { p, q });
  const [yes, no] = await evaluate(model, [
    { x: fed, first: flag(true) },
    { x: fed, first: flag(false) },
  ]);
  assert.deepEqual([yes?.["p"]?.data, yes?.["q"]?.data], [
    Float32Array.of(2, 4),
    Float32Array.of(2, 4),
  ]);
  assert.deepEqual([no?.["p"]?.data, no?.["q"]?.data], [
    Float32Array.of(1, 2),
    Float32Array.of(-1, -2),
  ]);
});

Deno.test("scan hands states on and stacks what else each run gives, scans inside scans too", async () => {
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [2, 3, 2] });
  const zero = b.fill(0, { dtype: "float32", shape: [2] });
  const [sums = x, partial = x] = b.scan({ rows: [x] }, (outer, { rows: [row = x] }) => {
    const made = outer.scan({ states: [zero], rows: [row] }, (inner, inputs) => {
      const { states: [sum = zero], rows: [entry = zero] } = inputs;
      const next = inner.add(sum, entry);
      return { states: [next], rows: [next] };
    });
    return { rows: made };
  });
  assert.deepEqual([sums.shape, partial.shape], [[2, 2], [2, 3, 2]]);
  const data = Float32Array.from({ length: 12 }, (_, i) => i + 1);
  const [out] = await evaluate(serialize(b, { sums, partial }), [{ x: float32(data, x.shape) }]);
  assert.deepEqual(out?.["sums"]?.data, Float32Array.of(9, 12, 27, 30));
  assert.deepEqual(
    out?.["partial"]?.data,
    Float32Array.of(1, 2, 4, 6, 9, 12, 7, 8, 16, 18, 27, 30),
  );
});

Deno.test("graphs inside nodes are checked, and not differentiated", () => {
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [2] });
  const condition = b.input("condition", { dtype: "bool", shape: [] });
  const none = { yes: () => [x], no: () => [x] };
  assert.throws(() => b.either(x, none), /Condition is float32\[2\], expected bool\[\]/);
  assert.throws(
    () => b.either(condition, { ...none, no: (into) => [into.reshape(x, [2, 1])] }),
    /Branches give float32\[2\] and float32\[2,1\], expected the same/,
  );
  assert.throws(
    () =>
      b.scan(
        { states: [x], rows: [x] },
        (into) => ({ states: [into.scalar(0, "float32")], rows: [] }),
      ),
    /State 0 is \[2\] before and \[\] after a run/,
  );
  const [y = x] = b.either(condition, none);
  assert.throws(
    () => gradient(b, [{ value: y, cotangent: b.fill(1, y) }], [x]),
    /Operator If has no gradient rule \(node If\w*; reached from x\)/,
  );
});
