import assert from "node:assert/strict";
import { Builder, gradient, OPERATORS, type Value } from "../../autodiff/mod.ts";
import { evaluate } from "./_evaluate.ts";
import type { OpCase } from "./cases/_case.ts";
import { FLOAT32_ONLY, OP_CASES } from "./op_cases.ts";

const CASES: Readonly<Record<string, Readonly<Record<string, OpCase>>>> = OP_CASES;

for (const [op, cases] of Object.entries(CASES)) {
  Deno.test(`gradient of ${op}`, async (t) => {
    for (const [name, opCase] of Object.entries(cases)) {
      await t.step(name || "plain", () => opCase.verify());
    }
  });
}

Deno.test("every operator has a gradient rule with cases, or is declared to have none", () => {
  const found = OPERATORS.filter(({ differentiable }) => differentiable).map(({ name }) => name);
  assert.deepEqual(Object.keys(CASES).sort(), found);
  for (const [op, cases] of Object.entries(CASES)) {
    assert(Object.keys(cases).length > 0, op);
    for (const [name, { ops }] of Object.entries(cases)) {
      assert(ops().some((used) => used === op), `Case "${name}" of ${op} does not use it`);
    }
  }
});

Deno.test("the operators checked in float32 are those without a float64 kernel", async () => {
  for (const op of FLOAT32_ONLY) {
    const cases = Object.values(CASES[op] ?? {});
    assert(cases.length > 0 && cases.every(({ isFloat32 }) => isFloat32), op);
    const model = cases[0]?.model("float64") ?? new Uint8Array();
    await assert.rejects(evaluate(model, []), /kernel|implementation|tensor\(double\)/, op);
  }
});

Deno.test("an operator that is declared to have no gradient lets none through", () => {
  const stops = OPERATORS.filter(({ differentiable }) => !differentiable).map(({ name }) => name);
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [2, 3] });
  const test = b.greater(x, 0);
  const args: Readonly<Record<string, readonly Value[]>> = {
    ...Object.fromEntries(stops.map((op) => [op, [x]])),
    ...Object.fromEntries(
      ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"].map((op) => [op, [x, x]]),
    ),
    ...Object.fromEntries(["And", "Or", "Xor"].map((op) => [op, [test, test]])),
    Not: [test],
  };
  for (const op of stops) {
    const y = b.call(op, args[op] ?? []);
    const result = b.cast(y, "float32");
    const cotangent = b.fill(1, result);
    assert.throws(
      () => gradient(b, [{ value: result, cotangent }], [x]),
      /No gradient reaches "x"/,
      op,
    );
  }
});
