import assert from "node:assert/strict";
import { openEngine } from "../runtime/mod.ts";
import { evaluate } from "../tests/autodiff/mod.ts";
import {
  Builder,
  float32,
  gradient,
  type Shape,
  type Tensor,
  type Value,
} from "../autodiff/mod.ts";
import { graphCost, totalFlops } from "./cost.ts";
import { lower } from "./lower.ts";
import { PLAIN_POLICY, type Policy } from "./policy.ts";
import { serialize } from "./serialize.ts";
import { checkGradient, numbersOf, randomTensor, uniform } from "./testing/mod.ts";
import { winogradRows } from "./winograd.ts";

/** Of the largest entry. A direct convolution in float32 of as many channels is 2e-7 to 5e-7 off. */
const ERROR = 3e-6;

interface Case {
  readonly x: Shape;
  readonly w: Shape;
  /** Top, left, bottom, right. */
  readonly pads: readonly number[];
}

interface Image {
  readonly shape: Shape;
  readonly data: ArrayLike<number>;
}

/** The convolution by its definition, in float64. */
function byDefinition(x: Image, w: Image, { pads, bias }: {
  readonly pads: readonly number[];
  readonly bias: ArrayLike<number>;
}): Image {
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const [out = 1, , taps = 1] = w.shape;
  const [top = 0, left = 0, bottom = 0, right = 0] = pads;
  const rows = height + top + bottom - taps + 1;
  const columns = width + left + right - taps + 1;
  const data = new Float64Array(batch * out * rows * columns);
  const at = (n: number, c: number, i: number, j: number) =>
    i < 0 || j < 0 || i >= height || j >= width
      ? 0
      : x.data[((n * channels + c) * height + i) * width + j] ?? NaN;
  data.forEach((_, k) => {
    const j = k % columns;
    const i = Math.floor(k / columns) % rows;
    const o = Math.floor(k / columns / rows) % out;
    const n = Math.floor(k / columns / rows / out);
    let sum = bias[o] ?? 0;
    for (let c = 0; c < channels; c++) {
      for (let t = 0; t < taps ** 2; t++) {
        const [r, s] = [Math.floor(t / taps), t % taps];
        sum += (w.data[(o * channels + c) * taps ** 2 + t] ?? NaN) *
          at(n, c, i + r - top, j + s - left);
      }
    }
    data[k] = sum;
  });
  return { shape: [batch, out, rows, columns], data };
}

function assertClose(found: Image | undefined, expected: Image, what: string): void {
  assert.deepEqual([...found?.shape ?? []], [...expected.shape], what);
  const [values, wanted] = [Array.from(found?.data ?? []), Array.from(expected.data)];
  const largest = wanted.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  const apart = wanted.reduce((m, v, i) => Math.max(m, Math.abs(v - (values[i] ?? NaN))), 0);
  assert.ok(apart <= ERROR * largest, `${what} is ${apart / largest} of the largest off`);
}

function operands({ x, w }: Pick<Case, "x" | "w">) {
  const next = uniform(3);
  const random = (shape: Shape) => float32([...numbersOf(randomTensor(next, { shape }))], shape);
  return { x: random(x), w: random(w), bias: random([w[0] ?? 1]) };
}

async function run(model: Uint8Array, feeds: Readonly<Record<string, Tensor>>) {
  const engine = await openEngine({ isolation: "in-process" });
  const session = await engine.load({ bytes: model }, { intraOpNumThreads: 1 });
  const found = await session.run(feeds);
  await engine.close();
  return (name: string): Image => {
    const tensor = found[name];
    assert.equal(tensor?.dtype, "float32", name);
    return tensor;
  };
}

/** Sizes that do not divide into tiles or blocks, several images, one block and many. */
const CASES: Readonly<Record<string, Case & { readonly block: number }>> = {
  "one tile": { x: [1, 2, 4, 4], w: [1, 2, 3, 3], pads: [1, 1, 1, 1], block: 512 },
  "one block": { x: [2, 6, 9, 7], w: [5, 6, 3, 3], pads: [1, 1, 1, 1], block: 512 },
  "a block for each tile": { x: [2, 6, 13, 7], w: [5, 6, 3, 3], pads: [1, 1, 1, 1], block: 1 },
  "blocks left over": { x: [3, 4, 19, 5], w: [4, 4, 3, 3], pads: [1, 1, 1, 1], block: 10 },
  "no padding": { x: [1, 8, 21, 11], w: [3, 8, 3, 3], pads: [0, 0, 0, 0], block: 18 },
  "sides padded apart": { x: [1, 4, 11, 6], w: [4, 4, 3, 3], pads: [2, 0, 0, 1], block: 7 },
  "many channels": { x: [1, 256, 12, 12], w: [8, 256, 3, 3], pads: [1, 1, 1, 1], block: 24 },
};

for (const [name, { block, pads, ...shapes }] of Object.entries(CASES)) {
  Deno.test(`${name}: rows by Winograd's algorithm equal a convolution in float64`, async () => {
    const { x, w, bias } = operands(shapes);
    const b = new Builder();
    const inputs = { x: b.input("x", x), w: b.input("w", w) };
    const y = winogradRows(b, inputs, { pads, block });
    const shifted = winogradRows(b, { ...inputs, bias: b.input("bias", bias) }, { pads, block });
    const found = await run(serialize(b, { y, shifted }), { x, w, bias });
    assertClose(found("y"), byDefinition(x, w, { pads, bias: [] }), "result");
    assertClose(found("shifted"), byDefinition(x, w, { pads, bias: bias.data }), "with bias");
  });
}

/** Channels from which it is worth it, whatever the size. */
const MANY: Case = { x: [2, 64, 10, 9], w: [96, 64, 3, 3], pads: [1, 1, 1, 1] };

/** A graph of one convolution and its gradients, and the operators it is run with. */
function graphOf({ x, w, pads }: Case, options: Partial<Policy>, groups = 1, stride = 1) {
  const b = new Builder({ differentiable: true });
  const policy = { ...PLAIN_POLICY, ...options };
  const inputs = [
    b.input("x", { dtype: "float32", shape: x }),
    b.input("w", {
      dtype: "float32",
      shape: w,
    }),
  ] as const;
  const [top = 0, left = 0, bottom = 0, right = 0] = pads;
  const y = b.conv2d(...inputs, { padding: [top, left, bottom, right], groups, stride });
  const cotangent = b.input("dy", y);
  const [dx, dw] = gradient(b, [{ value: y, cotangent }], inputs);
  assert(dx !== undefined && dw !== undefined);
  const convolutions = (v: Value) =>
    lower(b, [v], policy).graph.nodes.flatMap((node) => [
      node,
      ...Object.values(node.bodies).flatMap(({ graph }) => graph.nodes),
    ]).filter(({ op }) => op === "Conv").map(({ inputs }) => inputs[1]?.shape.slice(2).join("x"));
  return { b, y, dx, dw, policy, convolutions };
}

Deno.test("a convolution and its input's gradient are Winograd's, and right", async () => {
  const { b, y, dx, dw, policy, convolutions } = graphOf(MANY, { winograd: 1 });
  assert.deepEqual(convolutions(y), ["1x3"]);
  assert.deepEqual(convolutions(dx), ["1x3"]);
  // That by the kernel has one as large as the image.
  assert.deepEqual(convolutions(dw), ["10x9"]);
  const { x, w } = operands(MANY);
  const dy = float32([...numbersOf(randomTensor(uniform(5), { shape: y.shape }))], y.shape);
  const found = await run(serialize(b, { y, dx }, { policy }), { x, w, dy });
  assertClose(found("y"), byDefinition(x, w, { pads: MANY.pads, bias: [] }), "result");
  const [out = 1, channels = 1] = w.shape;
  // The gradient's kernel by its definition: channels change places, taps are turned round.
  const turned = {
    shape: [channels, out, 3, 3],
    data: Float64Array.from(w.data, (_, k) => {
      const [c, o, t] = [Math.floor(k / 9 / out), Math.floor(k / 9) % out, k % 9];
      return w.data[(o * channels + c) * 9 + 8 - t] ?? NaN;
    }),
  };
  assertClose(found("dx"), byDefinition(dy, turned, { pads: MANY.pads, bias: [] }), "gradient");
});

/** A 3x3 convolution, one pixel padded, as nine products: for float64, which the runtime convolves nothing in. */
function byTaps(
  b: Builder,
  x: Value,
  { w, bias }: { readonly w: Value; readonly bias: Value },
): Value {
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const out = bias.shape[0] ?? 1;
  const wide = b.pad(x, { pads: [0, 0, 1, 1, 0, 0, 1, 1] });
  const taps = Array.from({ length: 9 }, (_, k) => {
    const [i, j] = [Math.floor(k / 3), k % 3];
    const rows = b.slice(wide, { axis: 2, start: i, end: i + height });
    const read = b.slice(rows, { axis: 3, start: j, end: j + width });
    const kernel = b.slice(b.reshape(w, [out, channels, 9]), { axis: 2, start: k, end: k + 1 });
    return b.matMul(
      b.reshape(kernel, [1, out, channels]),
      b.reshape(read, [batch, channels, height * width]),
    );
  });
  return b.add(b.reshape(b.total(taps), [batch, out, height, width]), b.reshape(bias, [out, 1, 1]));
}

for (
  const [name, shape] of Object.entries({
    "one block of two images": [2, 70, 9, 10],
    "blocks of rows": [1, 70, 22, 130],
  })
) {
  Deno.test(`${name}: differences of the definition are the gradient by Winograd's algorithm, in float64`, async () => {
    const [, channels = 1] = shape;
    const next = uniform(11);
    const random = (shape: Shape) => randomTensor(next, { shape });
    const kernels = () =>
      randomTensor(next, { shape: [channels, channels, 3, 3], low: -0.1, high: 0.1 });
    await checkGradient({
      // The differentiated graph convolves, which float64 does by the lowering or not at all; the other one is exact.
      build: (b, { x, w, v, bias }) => {
        const convolve = (x: Value, w: Value) =>
          b.differentiable ? b.conv2d(x, w, { padding: 1, bias }) : byTaps(b, x, { w, bias });
        return convolve(b.silu(convolve(x, w)), v);
      },
      inputs: {
        x: random(shape),
        w: kernels(),
        v: kernels(),
        bias: random([channels]),
      },
      // The kernels' own gradients are convolutions as large as the image.
      wrt: ["x", "bias"],
      policy: { winograd: 1 },
      evaluate,
      tolerance: 1e-10,
    });
  });
}

Deno.test("convolutions that would not gain stay as they are", () => {
  const positions = 2 * 10 * 9;
  const untouched = (what: string, { options = {}, groups, stride, ...changed }:
    & Partial<Case>
    & { options?: Partial<Policy>; groups?: number; stride?: number }) => {
    const c = { ...MANY, ...changed };
    const { y, convolutions } = graphOf(c, { winograd: positions, ...options }, groups, stride);
    assert.deepEqual(convolutions(y), [c.w.slice(2).join("x")], what);
  };
  untouched("by default", { options: { winograd: Infinity } });
  untouched("few positions", { options: { winograd: positions + 1 } });
  untouched("few channels in", { x: [2, 16, 10, 9], w: [96, 16, 3, 3] });
  untouched("few channels out", { w: [3, 64, 3, 3] });
  untouched("odd channels", { x: [2, 65, 10, 9], w: [96, 65, 3, 3] });
  untouched("another kernel", { w: [96, 64, 5, 5], pads: [2, 2, 2, 2] });
  untouched("groups", { w: [96, 32, 3, 3], groups: 2 });
  untouched("a stride", { stride: 2 });
});

Deno.test("its kernels and one block of rows are counted", () => {
  const [C, O, side] = [128, 64, 64];
  const b = new Builder();
  const x = b.input("x", { dtype: "float32", shape: [1, C, side, side] });
  const w = b.weight("w", { dtype: "float32", shape: [O, C, 3, 3] }, { file: "w", offset: 0 });
  const cost = graphCost(b, [b.conv2d(x, w, { padding: 1 })], {
    fold: false,
    policy: { ...PLAIN_POLICY, winograd: 1 },
  });
  const [input, result, kernels] = [C * side * side, O * side * side, 2 * O * C * 9];
  // Six images of each channel, before and after they are turned.
  const block = 2 * 6 * 512 * C;
  assert.ok(cost.activationBytes >= 4 * (input + result + kernels + block));
  assert.ok(cost.activationBytes <= 1.1 * 4 * (input + result + kernels + block));
  // Half of the convolution's products, and the transforms'.
  const direct = 2 * 9 * C * O * side * side;
  const flops = totalFlops(cost);
  assert.ok(flops > direct / 2 && flops < 0.75 * direct);
});
