import assert from "node:assert/strict";
import { Builder } from "./builder.ts";
import { GradientError } from "./errors.ts";
import { differentiate, gradient } from "./gradient.ts";
import type { Value } from "./graph.ts";
import { RULES } from "./rules/mod.ts";
import type { DType, Shape } from "./tensor.ts";

/** A builder, and x [2, 3], z [3] and int n [3]. */
function setting() {
  const b = new Builder({ differentiable: true });
  const input = (name: string, shape: Shape, dtype: DType = "float32") =>
    b.input(name, { dtype, shape });
  return { b, x: input("x", [2, 3]), z: input("z", [3]), n: input("n", [3], "int64") };
}

const seed = (b: Builder, value: Value) => ({ value, cotangent: b.fill(1, value) });

/** Operators that `body` appends. */
function appended(b: Builder, body: () => void): string[] {
  const before = b.nodes.length;
  body();
  return b.nodes.slice(before).map(({ op }) => op);
}

Deno.test("only nodes between the inputs of interest and the result are differentiated", () => {
  const { b, x, z } = setting();
  const y = b.add(b.mul(b.exp(z), x), b.sin(z));
  b.tanh(x);
  const ops = appended(b, () => gradient(b, [seed(b, y)], [x]));
  assert.deepEqual(ops, ["Mul"]);
  assert.equal(b.nodes.at(-1)?.inputs[1]?.name, "Exp");
});

Deno.test("a rule computes only what is wanted", () => {
  const { b, x, z } = setting();
  const y = b.div(x, z);
  assert.deepEqual(appended(b, () => gradient(b, [seed(b, y)], [x])), ["Div"]);
});

Deno.test("gradients of several uses are added, and broadcasting is undone, once", () => {
  const { b, x, z } = setting();
  const y = b.add(b.add(x, z), z);
  const [dz] = gradient(b, [seed(b, y)], [z]);
  assert.deepEqual(dz?.shape, [3]);
  const ops = appended(b, () => gradient(b, [seed(b, y)], [z]));
  assert.deepEqual(ops, ["ReduceSum", "Reshape", "ReduceSum", "Reshape", "Add"]);
});

Deno.test("results may be several, and a result may be its own input", () => {
  const { b, x } = setting();
  const y = b.exp(x);
  const [dx, dy] = gradient(b, [seed(b, y), seed(b, b.sin(y)), seed(b, x)], [x, y]);
  assert.deepEqual([dx?.shape, dy?.shape], [[2, 3], [2, 3]]);
  const [same] = gradient(b, [seed(b, x)], [x]);
  assert.equal(same, b.fill(1, x));
});

Deno.test("nothing flows through stopGradient, and a rounding passes nothing on", () => {
  const { b, x } = setting();
  const y = b.mul(x, b.stopGradient(b.exp(x)));
  assert.deepEqual(appended(b, () => gradient(b, [seed(b, y)], [x])), ["Mul"]);
  for (const stopped of [b.stopGradient(x), b.round(x), b.sign(x)]) {
    assert.throws(
      () => gradient(b, [seed(b, stopped)], [x]),
      /^GradientError: No gradient reaches "x": the result does not depend on it$/,
    );
  }
});

Deno.test("straightThrough passes the gradient on to its first input alone", () => {
  const { b, x } = setting();
  const y = b.straightThrough(x, b.round(b.exp(x)));
  const { value, cotangent } = seed(b, y);
  assert.deepEqual(gradient(b, [{ value, cotangent }], [x]), [cotangent]);
});

Deno.test("what no gradient reaches is an error, or zero where asked for", () => {
  const { b, x, z } = setting();
  const y = b.exp(x);
  assert.throws(() => gradient(b, [seed(b, y)], [x, z]), /No gradient reaches "z"/);
  const [, dz] = gradient(b, [seed(b, y)], [x, z], { unreached: "zero" });
  assert.deepEqual([dz?.dtype, dz?.shape], ["float32", [3]]);
  assert.equal(dz?.source.kind === "node" && dz.source.node.op, "Expand");
});

Deno.test("an operator without a rule is an error that names it, its node and the way there", () => {
  const { b, x, z } = setting();
  const { Sin: _, ...rules } = RULES;
  const y = b.scope("head", () => b.sin(b.scope("body", () => b.exp(b.mul(z, x)))));
  assert.throws(
    () => differentiate(b, { seeds: [seed(b, y)], wrt: [x], rules, unreached: "error" }),
    (error) => {
      assert(error instanceof GradientError);
      assert.equal(
        error.message,
        "Operator Sin has no gradient rule (node head/Sin; reached from x -> head/body/Mul -> head/body/Exp)",
      );
      return true;
    },
  );
  // Off the path it is no matter.
  const w = b.mul(b.sin(z), x);
  assert.equal(
    differentiate(b, { seeds: [seed(b, w)], wrt: [x], rules, unreached: "error" }).length,
    1,
  );
});

Deno.test("a rule that forgets an input, or gives it another dtype, is an error", () => {
  const { b, x } = setting();
  const seeds = [seed(b, b.exp(x))];
  const options = { seeds, wrt: [x], unreached: "error" } as const;
  assert.throws(
    () => differentiate(b, { ...options, rules: { Exp: () => [] } }),
    /Rule of Exp gives no gradient for input 0 \(node Exp; reached from x\)/,
  );
  assert.throws(
    () => differentiate(b, { ...options, rules: { Exp: () => [b.cast(x, "float64")] } }),
    /Gradient of input 0 of Exp is float64\[2,3\], expected float32\[2,3\]/,
  );
});

Deno.test("cotangents and inputs of interest must be of the right kind", () => {
  const { b, x, n } = setting();
  const y = b.exp(x);
  assert.throws(
    () => gradient(b, [{ value: y, cotangent: b.scalar(1, "float32") }], [x]),
    /Cotangent of "Exp" is float32\[\], expected float32\[2,3\]/,
  );
  assert.throws(
    () => gradient(b, [{ value: y, cotangent: b.fill(1, { ...y, dtype: "float64" }) }], [x]),
    /Cotangent of "Exp" is float64\[2,3\], expected float32\[2,3\]/,
  );
  assert.throws(() => gradient(b, [seed(b, y)], [n]), /"n" is int64; gradients need a float/);
});

Deno.test("gradient nodes carry the names of the nodes they belong to", () => {
  const { b, x } = setting();
  const y = b.scope("block", () => b.tanh(x));
  const names = b.nodes.length;
  gradient(b, [seed(b, y)], [x]);
  const made = b.nodes.slice(names).map(({ name }) => name);
  assert(made.length > 0 && made.every((name) => name.startsWith("grad/block/Tanh/")), `${made}`);
});

Deno.test("a linear layer's gradients take no transposed copy of its weight", () => {
  const b = new Builder({ differentiable: true });
  const x = b.input("x", { dtype: "float32", shape: [2, 5, 4] });
  const w = b.weight("w", { dtype: "float32", shape: [3, 4] }, { file: "w", offset: 0 });
  const ops = appended(b, () => gradient(b, [seed(b, b.linear(x, w))], [x]));
  assert.deepEqual(ops, ["Reshape", "Gemm", "Reshape", "Reshape", "Gemm", "Reshape"]);
});

Deno.test("a convolution is differentiated by its transpose, patches by a product", () => {
  const b = new Builder({ differentiable: true });
  const x = b.input("x", { dtype: "float32", shape: [1, 3, 8, 8] });
  const w = b.input("w", { dtype: "float32", shape: [4, 3, 2, 2] });
  const ops = (stride: number) => {
    const y = b.conv2d(x, w, { stride });
    return new Set(appended(b, () => gradient(b, [seed(b, y)], [x])));
  };
  assert.deepEqual([...ops(1)], ["ConvTranspose"]);
  assert(ops(2).has("Gemm") && !ops(2).has("ConvTranspose"));
});
