import assert from "node:assert/strict";
import { float, int, ints } from "./attributes.ts";
import { Builder } from "./builder.ts";
import { float32, type Shape } from "./tensor.ts";

function setting(shape: Shape = [2, 3]) {
  const b = new Builder();
  return { b, x: b.input("x", { dtype: "float32", shape }) };
}

Deno.test("nodes are named by scope and operator, and no name is used twice", () => {
  const { b, x } = setting();
  b.exp(x);
  b.scope("outer", () => b.scope("inner", () => (b.exp(x), b.exp(x))));
  assert.deepEqual(b.nodes.map(({ name }) => name), [
    "Exp",
    "outer/inner/Exp",
    "outer/inner/Exp_1",
  ]);
  b.input("Exp_1", x);
  assert.equal(b.exp(x).name, "Exp_2");
  assert.throws(() => b.input("x", x), /Input name "x" is already taken/);
});

Deno.test("a scope ends when its body throws", () => {
  const { b, x } = setting();
  assert.throws(() => b.scope("a", () => b.matMul(x, x)));
  assert.equal(b.exp(x).name, "Exp");
});

Deno.test("equal small constants are one value, and a weight's location is one", () => {
  const { b } = setting();
  assert.equal(b.scalar(2, "float32"), b.scalar(2, "float32"));
  assert.notEqual(b.scalar(2, "float32"), b.scalar(2, "float64"));
  assert.notEqual(b.scalar(0, "float32"), b.scalar(-0, "float32"));
  assert.notEqual(b.ints([2]), b.constant(float32([2])));
  const type = { dtype: "float32", shape: [2] } as const;
  const w = b.weight("w", type, { file: "a", offset: 8 });
  assert.equal(b.weight("again", type, { file: "a", offset: 8 }), w);
  assert.notEqual(b.weight("w", type, { file: "a", offset: 16 }), w);
  assert.notEqual(b.weight("w", type, { file: "b", offset: 8 }), w);
  assert.notEqual(b.weight("w", { ...type, shape: [1, 2] }, { file: "a", offset: 8 }), w);
});

Deno.test("a value of another graph is refused", () => {
  const { x } = setting();
  assert.throws(
    () => new Builder().exp(x),
    /^GraphError: Input 0 of Exp \("x"\) belongs to another graph$/,
  );
});

Deno.test("sizes and offsets are checked", () => {
  const { b } = setting();
  assert.throws(() => b.input("a", { dtype: "float32", shape: [-1] }), /must be whole and known/);
  assert.throws(() => b.input("a", { dtype: "float32", shape: [1.5] }), /must be whole and known/);
  assert.throws(
    () => b.weight("w", { dtype: "float32", shape: [1] }, { file: "f", offset: -8 }),
    /Weight "w" has offset -8, expected 0 or more/,
  );
  assert.throws(() => float32([1, 2], [3]), /Tensor data has 2 elements; shape \[3\] needs 3/);
});

/** What an operator refuses, and what it says. x is [2, 3], y [4, 5], n int64 [3], image [1, 4, 6, 6]. */
const REFUSED: readonly [RegExp, (s: ReturnType<typeof inputs>) => unknown][] = [
  [
    /^GraphError: MatMul\(float32\[2,3\], float32\[4,5\]\): Inner dimensions differ: 3 and 4$/,
    ({ b, x, y }) => b.matMul(x, y),
  ],
  [/Add\(.*\): Shapes \[2,3\] and \[4,5\] do not broadcast/, ({ b, x, y }) => b.add(x, y)],
  [/Add\(.*\): Dtypes differ: float32 and int64/, ({ b, x, n }) => b.add(x, n)],
  [/Exp\(int64\[3\]\): Input 0 is int64, expected a floating dtype/, ({ b, n }) => b.exp(n)],
  [/Softmax.*: Axis 2 is outside -2\.\.1/, ({ b, x }) => b.softmax(x, 2)],
  [/Where.*: Condition is float32, expected bool/, ({ b, x }) => b.where(x, x, x)],
  [/Reshape.*: \[2,3\] does not reshape to \[4,-1\]/, ({ b, x }) => b.reshape(x, [4, -1])],
  [/Transpose.*: perm \[0,0\] is no permutation of 2 axes/, ({ b, x }) => b.transpose(x, [0, 0])],
  [
    /Concat.*: Input 1 is \[4,5\], expected \[2,3\] but for axis 0/,
    ({ b, x, y }) => b.concat([x, y], 0),
  ],
  [/Split.*: Parts \[1,1\] do not add up to 3/, ({ b, x }) => b.split(x, [1, 1], 1)],
  [/Squeeze.*: Axis 0 of \[2,3\] is not 1/, ({ b, x }) => b.squeeze(x, [0])],
  [/ReduceSum.*: Axes \[0,-2\] repeat/, ({ b, x }) => b.sum(x, { axes: [0, -2] })],
  [
    /ReduceSum.*: Axes must be a constant, "n" is computed/,
    ({ b, x, n }) => b.call("ReduceSum", [x, n]),
  ],
  [
    /Pad.*reflect.* do not fit axis 0 of 2/,
    ({ b, x }) => b.pad(x, { pads: [2, 0, 0, 0], mode: "reflect" }),
  ],
  [/Gather.*: Input 1 is float32, expected int64 or int32 indices/, ({ b, x }) => b.gather(x, x)],
  [
    /Conv.*: Input has 4 channels, the kernel \[2,3,1,1\] with group 1 needs 3/,
    (s) => s.b.conv2d(s.image, s.b.fill(0, { dtype: "float32", shape: [2, 3, 1, 1] })),
  ],
  [
    /Conv.*: Window \[7,7\] is larger than the padded input \[6,6\]/,
    (s) => s.b.conv2d(s.image, s.b.fill(0, { dtype: "float32", shape: [1, 4, 7, 7] })),
  ],
  [
    /Conv.*: Bias \[3\] does not fit 2 output channels/,
    (s) =>
      s.b.conv2d(s.image, s.b.fill(0, { dtype: "float32", shape: [2, 4, 1, 1] }), {
        bias: s.b.fill(0, { dtype: "float32", shape: [3] }),
      }),
  ],
  [/GroupNorm.*: 4 channels are not a multiple of num_groups 3/, (s) => {
    const scale = s.b.fill(1, { dtype: "float32", shape: [4] });
    return s.b.groupNorm(s.image, { groups: 3, scale, bias: scale, epsilon: 1e-5 });
  }],
  [
    /LayerNorm.*: Input 1 is \[2\], expected \[3\]/,
    (s) =>
      s.b.layerNorm(s.x, { scale: s.b.fill(1, { dtype: "float32", shape: [2] }), epsilon: 1e-5 }),
  ],
  [
    /Attention.*: Attention needs q \[B, N, C\] and k, v of one shape/,
    ({ b, x }) => b.attention(x, x, x, { heads: 1 }),
  ],
  [/TopK.*: K is 4, expected 1 to 3/, ({ b, x }) => b.call("TopK", [x, b.ints([4])])],
  [
    /Resize.*: Attribute mode is "area", expected one of nearest, linear, cubic/,
    ({ b, x }) =>
      b.call("Resize", [x, undefined, undefined, b.ints([2, 3])], {
        mode: { type: "string", value: "area" },
      }),
  ],
  [
    /Einsum.*: Term "ii" repeats a letter/,
    ({ b, x }) => b.call("Einsum", [x], { equation: { type: "string", value: "ii->i" } }),
  ],
  [/Mod.*: Attribute fmod is 0, expected 1/, ({ b, x }) => b.call("Mod", [x, x])],
  [
    /Exp.*: Attribute "axis" is unknown, expected some of none/,
    ({ b, x }) => b.call("Exp", [x], { axis: int(0) }),
  ],
  [
    /ReduceSum.*: Attribute "axes" is unknown, expected some of keepdims/,
    ({ b, x }) => b.call("ReduceSum", [x], { axes: ints([0]) }),
  ],
  [
    /Softmax.*: Attribute "axis" is of type float, expected int/,
    ({ b, x }) => b.call("Softmax", [x], { axis: float(0) }),
  ],
  [/Cast.*: Attribute to is missing/, ({ b, x }) => b.call("Cast", [x])],
  [/MaxPool.*: Attribute kernel_shape is missing/, ({ b, x }) => b.call("MaxPool", [x])],
  // What inference does not read, whoever runs the model does.
  [
    /Selu.*: Attribute "gamma" is of type int, expected float/,
    ({ b, x }) => b.call("Selu", [x], { gamma: int(1) }),
  ],
];

function inputs() {
  const { b, x } = setting();
  const y = b.input("y", { dtype: "float32", shape: [4, 5] });
  const n = b.input("n", { dtype: "int64", shape: [3] });
  const image = b.input("image", { dtype: "float32", shape: [1, 4, 6, 6] });
  return { b, x, y, n, image };
}

Deno.test("inputs and attributes that do not fit are errors that name the node and the reason", () => {
  for (const [message, build] of REFUSED) assert.throws(() => build(inputs()), message);
});

Deno.test("all outputs of an operator are there to be read", () => {
  const { b, x } = setting();
  const scale = b.fill(1, { dtype: "float32", shape: [3] });
  assert.deepEqual(
    b.op("LayerNormalization", [x, scale]).map(({ name, shape }) => [name, shape.join()]),
    [["LayerNormalization", "2,3"], ["LayerNormalization:1", "2,1"], [
      "LayerNormalization:2",
      "2,1",
    ]],
  );
  assert.deepEqual(b.split(x, [1, 2], 1).map(({ shape }) => shape), [[2, 1], [2, 2]]);
});
