import assert from "node:assert/strict";
import { float32, float64, type Tensor } from "../../autodiff/mod.ts";
import {
  type BuildFunction,
  checkGradient,
  PRECISION,
  randomTensor,
  uniform,
} from "../../compile/testing/mod.ts";
import { evaluate } from "./_evaluate.ts";

const inputs = (dtype: "float32" | "float64", ...shape: number[]) => {
  const next = uniform(2);
  return {
    x: randomTensor(next, { shape, dtype, low: 0.2 }),
    y: randomTensor(next, { shape, dtype, low: 0.2 }),
  };
};

const product: BuildFunction<"x" | "y"> = (b, { x, y }) => b.mul(b.exp(x), b.log(y));

/** Right values with a gradient that is off by a factor: the derivative of `right` is passed on as that of x. */
const wrong = (factor: number): BuildFunction<"x" | "y"> => (b, { x, y }) =>
  b.mul(b.straightThrough(b.mul(x, factor), x), y);

const refuses = (message: RegExp, run: () => Promise<unknown>) =>
  assert.rejects(run, (error) => {
    assert(error instanceof assert.AssertionError);
    assert.match(error.message, message);
    return true;
  });

Deno.test("a right gradient passes, with room to spare", async () => {
  for (const dtype of ["float64", "float32"] as const) {
    const report = await checkGradient({
      build: product,
      inputs: inputs(dtype, 3, 4),
      evaluate,
    });
    assert(report.error < PRECISION[dtype].tolerance / 3, `${dtype}: ${report.error}`);
    assert.deepEqual(Object.keys(report.gradients), ["x", "y"]);
    assert.deepEqual(report.outputs[0]?.shape, [3, 4]);
    assert(Math.abs(report.numeric) > 1e-2);
  }
});

Deno.test("a gradient that is off by little fails, and the input is named", async () => {
  const run = (dtype: "float32" | "float64", factor: number) =>
    checkGradient({ build: wrong(factor), inputs: inputs(dtype, 4, 5), evaluate });
  await run("float64", 1);
  await refuses(
    /Gradient is off by .*\(x: .* by the rules, .* by differences; y: /,
    () => run("float64", 1 + 1e-7),
  );
  await run("float32", 1);
  await refuses(/Gradient is off by/, () => run("float32", 1 + 1e-3));
});

Deno.test("one wrong entry of ten thousand fails", async () => {
  const build = (factor: number): BuildFunction<"x" | "y"> => (b, { x, y }) => {
    const one = b.table(Array.from({ length: 10_000 }, (_, i) => i === 4321 ? factor : 1), x);
    return b.mul(b.straightThrough(b.mul(x, one), x), y);
  };
  await checkGradient({ build: build(1), inputs: inputs("float64", 10_000), evaluate });
  await refuses(
    /Gradient is off by/,
    () => checkGradient({ build: build(1.001), inputs: inputs("float64", 10_000), evaluate }),
  );
});

Deno.test("a gradient that should be there and is zero fails", async () => {
  await refuses(/Gradient is off by/, () =>
    checkGradient({
      build: (b, { x, y }) => b.add(b.mul(b.stopGradient(x), y), b.mul(x, 0)),
      inputs: inputs("float64", 6),
      evaluate,
    }));
});

Deno.test("a gradient that is zero and should be passes", async () => {
  const report = await checkGradient({
    build: (b, { x }) => b.sub(b.mul(x, 3), b.mul(x, 3)),
    inputs: { x: float64([0.3, 0.4]) },
    evaluate,
  });
  assert.equal(report.analytic, 0);
});

Deno.test("values that are not numbers fail", async () => {
  await refuses(/Gradient is off by NaN/, () =>
    checkGradient({
      build: (b, { x }) => b.log(x),
      inputs: { x: float64([-1, 2]) },
      evaluate,
    }));
});

Deno.test("a forward graph that differs from the differentiable one fails", async () => {
  await refuses(/Forward and differentiable graph differ by/, () =>
    checkGradient({
      build: (b, { x }) => b.add(x, b.differentiable ? 1 : 0),
      inputs: { x: float64([1, 2]) },
      evaluate,
    }));
});

Deno.test("inputs that are not floating are fed as they are", async () => {
  const at: Tensor = { dtype: "int64", shape: [2], data: BigInt64Array.of(2n, 0n) };
  const report = await checkGradient({
    build: (b, { x, at }) => [b.gather(x, at), at],
    inputs: { x: float32([1, 2, 3]), at },
    evaluate,
  });
  assert.deepEqual(Object.keys(report.gradients), ["x"]);
  assert.equal(report.cotangents[1], undefined);
});
