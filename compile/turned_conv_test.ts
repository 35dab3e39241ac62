import assert from "node:assert/strict";
import { Builder, float32, gradient, type Shape, sizeOf } from "../autodiff/mod.ts";
import { assertClose, withEngine } from "../tests/models/mod.ts";
import { graphCost } from "./cost.ts";
import { lower } from "./lower.ts";
import { PLAIN_POLICY, policyOf } from "./policy.ts";
import { serialize } from "./serialize.ts";
import { CPU_TARGET } from "./target.ts";
import { numbersOf, randomTensor, uniform } from "./testing/mod.ts";

interface Geometry {
  readonly x: Shape;
  readonly w: Shape;
  readonly padding?: readonly [number, number, number, number];
  readonly dilation?: number;
  readonly groups?: number;
}

/** The gradient of a convolution by x. */
function graphOf({ x, w, ...options }: Geometry) {
  const b = new Builder({ differentiable: true });
  const image = b.input("x", { dtype: "float32", shape: x });
  const y = b.conv2d(image, b.input("w", { dtype: "float32", shape: w }), options);
  const dy = b.input("dy", y);
  const [dx] = gradient(b, [{ value: y, cotangent: dy }], [image]);
  assert.ok(dx);
  return { b, dy, dx };
}

const turnedFrom = (turnedKernels: number) => ({ ...PLAIN_POLICY, turnedKernels });

const CASES: Readonly<Record<string, Geometry>> = {
  "3x3, padded": { x: [2, 3, 6, 5], w: [4, 3, 3, 3], padding: [1, 1, 1, 1] },
  "1x1": { x: [1, 5, 4, 4], w: [3, 5, 1, 1] },
  "2x2, padded on two sides": { x: [2, 4, 5, 5], w: [4, 4, 2, 2], padding: [1, 0, 0, 1] },
  "dilated": { x: [1, 2, 9, 8], w: [3, 2, 3, 3], padding: [2, 1, 0, 2], dilation: 2 },
  "groups": { x: [2, 4, 5, 5], w: [6, 2, 3, 3], padding: [1, 1, 1, 1], groups: 2 },
};

for (const [name, geometry] of Object.entries(CASES)) {
  Deno.test(`${name}: with its kernel turned round, a transposed convolution has the same result`, () =>
    withEngine(async (engine) => {
      const { b, dy, dx } = graphOf(geometry);
      const next = uniform(3);
      const random = (shape: Shape) =>
        float32([...numbersOf(randomTensor(next, { shape }))], shape);
      const feeds = { x: random(geometry.x), w: random(geometry.w), dy: random(dy.shape) };
      const run = async (turnedKernels: number) => {
        const policy = turnedFrom(turnedKernels);
        const ops = new Set(lower(b, [dx], policy).graph.nodes.map(({ op }) => op));
        const isTurned = turnedKernels === 0;
        assert.deepEqual([ops.has("Conv"), ops.has("ConvTranspose")], [isTurned, !isTurned]);
        const session = await engine.load({ bytes: serialize(b, { dx }, { policy }) });
        return (await session.run(feeds)).dx;
      };
      const expected = await run(Infinity);
      assert.ok(expected);
      assertClose(await run(0), expected, { tolerance: 1e-6, what: "the gradient" });
    }));
}

Deno.test("kernels are turned round where that is done once, or for many positions", () => {
  const positions = 2 * 6 * 5;
  const { b, dx } = graphOf({ x: [2, 3, 6, 5], w: [4, 3, 3, 3], padding: [1, 1, 1, 1] });
  const isTurned = (turnedKernels: number) =>
    lower(b, [dx], turnedFrom(turnedKernels)).graph.nodes.some(({ op }) => op === "Conv");
  assert.equal(isTurned(positions), true);
  assert.equal(isTurned(positions + 1), false);
  assert.equal(policyOf(CPU_TARGET, { fold: true }).turnedKernels, 0);
  assert.ok(policyOf(CPU_TARGET, { fold: false }).turnedKernels > positions);
});

Deno.test("the columns of a transposed convolution are counted", () => {
  const [channels, side] = [64, 8];
  const { b, dx } = graphOf({
    x: [2, channels, side, side],
    w: [channels, channels, 3, 3],
    padding: [1, 1, 1, 1],
  });
  const { activationBytes } = graphCost(b, [dx], { policy: turnedFrom(Infinity) });
  const columns = 4 * 9 * channels * side ** 2;
  const held = [...b.inputs, dx].reduce((sum, { shape }) => sum + 4 * sizeOf(shape), 0);
  assert.equal(activationBytes, held + columns);
});
