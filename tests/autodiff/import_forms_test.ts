import assert from "node:assert/strict";
import {
  Builder,
  constantOf,
  float32,
  importModel,
  int64,
  type Shape,
  type Tensor,
} from "../../autodiff/mod.ts";
import { serialize } from "../../compile/mod.ts";
import { numbersOf, randomTensor, uniform } from "../../compile/testing/mod.ts";
import { evaluate } from "./_evaluate.ts";
import {
  type AttributeValue,
  type ForeignModel,
  type ForeignNode,
  onnxBytes,
} from "./_onnx_model.ts";

const int = (...entries: number[]): Tensor => int64(entries);
const scalar = (value: number): Tensor => int64([value], []);
const bool = (...entries: number[]): Tensor => ({
  dtype: "bool",
  shape: [entries.length],
  data: Uint8Array.from(entries),
});

/** Every older form of an operator, by a name that says what is old about it. */
const FORMS: Readonly<Record<string, ForeignModel>> = {
  "squeeze by attribute": one(11, "Squeeze", [1, 3, 1], { axes: [0] }),
  "squeeze by input": one(13, "Squeeze", [1, 3, 1], {}, { axes: int(-1) }),
  "unsqueeze by attribute": one(11, "Unsqueeze", [3, 2], { axes: [0, 3] }),
  "unsqueeze by input": one(13, "Unsqueeze", [3, 2], {}, { axes: int(0, -1) }),
  "sum by attribute": one(11, "ReduceSum", [2, 3, 4], { axes: [1], keepdims: 0 }),
  "sum by input": one(13, "ReduceSum", [2, 3, 4], { keepdims: 0 }, { axes: int(-1, 0) }),
  "mean by attribute": one(17, "ReduceMean", [2, 3, 4], { axes: [-1] }),
  "mean by input": one(18, "ReduceMean", [2, 3, 4], {}, { axes: int(1) }),
  "norm of all": one(13, "ReduceL2", [2, 3], { keepdims: 0 }),
  "split by attribute": parts(11, { split: [1, 3], axis: 1 }),
  "split by input": parts(13, { axis: -1 }, { split: int(3, 1) }),
  "split evenly": parts(13, { axis: 1 }),
  "split in a number of parts": parts(18, { axis: 1, num_outputs: 2 }),
  "split in parts of which the last is smaller": parts(18, { axis: 0, num_outputs: 2 }),
  "softmax over all later axes": one(11, "Softmax", [2, 3, 4], { axis: 1 }),
  "softmax, old default": one(12, "Softmax", [2, 3, 4]),
  "softmax of the last axis": one(12, "Softmax", [2, 3, 4], { axis: -1 }),
  "log softmax over all axes": one(11, "LogSoftmax", [2, 3], { axis: 0 }),
  "softmax, new default": one(13, "Softmax", [2, 3, 4]),
  "padding computed of the size": {
    opset: 18,
    inputs: { x: { shape: [2, 3] } },
    stored: {
      first: scalar(0),
      bound: float32([0.3], [1]),
      zero: float32([0], []),
      ten: float32([10], [1]),
      twice: int(2),
    },
    // 1 / (2, 2 + 3) - 0.3 is (0.2, -0.1): 2 and 0 rows and columns, and one more, before and after.
    nodes: [
      { op: "Shape", inputs: ["x"], outputs: ["size"] },
      { op: "Cast", inputs: ["size"], outputs: ["real"], attributes: { to: 1 } },
      { op: "CumSum", inputs: ["real", "first"], outputs: ["sums"] },
      { op: "Reciprocal", inputs: ["sums"], outputs: ["parts"] },
      { op: "Sub", inputs: ["parts", "bound"], outputs: ["moved"] },
      { op: "Clip", inputs: ["moved", "zero"], outputs: ["clipped"] },
      { op: "Mul", inputs: ["clipped", "ten"], outputs: ["some"] },
      { op: "Round", inputs: ["some"], outputs: ["whole"] },
      { op: "ReduceMean", inputs: ["whole"], outputs: ["mean"], attributes: { keepdims: 1 } },
      { op: "Tile", inputs: ["whole", "twice"], outputs: ["tiled"] },
      { op: "Add", inputs: ["tiled", "mean"], outputs: ["pads"] },
      { op: "Cast", inputs: ["pads"], outputs: ["ends"], attributes: { to: 7 } },
      { op: "Pad", inputs: ["x", "ends"], outputs: ["y"] },
    ],
    outputs: ["y"],
  },
  "sizes computed in floats that a quantizer has rounded": {
    opset: 13,
    inputs: { x: { shape: [2, 6] } },
    stored: {
      part: float32([0.5], []),
      scale: float32([0.05], []),
      zero: { dtype: "uint8", shape: [], data: Uint8Array.of(3) },
      rest: int(-1),
      axes: int(0),
      two: int(1),
    },
    nodes: [
      { op: "Shape", inputs: ["x"], outputs: ["size"] },
      { op: "Gather", inputs: ["size", "two"], outputs: ["columns"] },
      { op: "Cast", inputs: ["columns"], outputs: ["real"], attributes: { to: 1 } },
      { op: "Mul", inputs: ["real", "part"], outputs: ["half"] },
      { op: "QuantizeLinear", inputs: ["half", "scale", "zero"], outputs: ["q"] },
      { op: "DequantizeLinear", inputs: ["q", "scale", "zero"], outputs: ["near"] },
      { op: "Round", inputs: ["near"], outputs: ["whole"] },
      { op: "Cast", inputs: ["whole"], outputs: ["rows"], attributes: { to: 7 } },
      { op: "Concat", inputs: ["rows", "rest"], outputs: ["shape"], attributes: { axis: 0 } },
      { op: "Reshape", inputs: ["x", "shape"], outputs: ["y"] },
    ],
    outputs: ["y"],
  },
  "dropout with ratio": one(11, "Dropout", [2, 3], { ratio: { float: 0.3 } }),
  "dropout, training off": {
    opset: 13,
    inputs: { x: { shape: [2, 3] } },
    stored: {
      ratio: float32([0.3], []),
      training: { dtype: "bool", shape: [], data: Uint8Array.of(0) },
    },
    nodes: [{ op: "Dropout", inputs: ["x", "ratio", "training"], outputs: ["y"] }],
    outputs: ["y"],
  },
  "batch normalization with momentum": {
    ...one(14, "BatchNormalization", [2, 3, 4], { momentum: { float: 0.8 }, training_mode: 0 }, {
      scale: float32([1, 2, 3]),
      bias: float32([0.1, 0.2, 0.3]),
      mean: float32([0.5, 0, -0.5]),
      variance: float32([1, 2, 0.5]),
    }),
  },
  "group normalization, scale per group": one(18, "GroupNormalization", [2, 4, 3], {
    num_groups: 2,
    epsilon: { float: 1e-3 },
  }, { scale: float32([2, 3]), bias: float32([0.5, -0.5]) }),
  "group normalization, scale per channel": one(21, "GroupNormalization", [2, 4, 3], {
    num_groups: 2,
  }, { scale: float32([1, 2, 3, 4]), bias: float32([1, 2, 3, 4]) }),
  "layer normalization with stash type": one(17, "LayerNormalization", [2, 4], {
    stash_type: 1,
  }, { scale: float32([1, 2, 3, 4]) }),
  "resize with a region and no sizes": {
    opset: 11,
    inputs: { x: { shape: [1, 1, 3, 4] } },
    stored: { roi: float32([]), scales: float32([1, 1, 2, 1.5]) },
    nodes: [{
      op: "Resize",
      inputs: ["x", "roi", "scales"],
      outputs: ["y"],
      attributes: { mode: "linear", coordinate_transformation_mode: "align_corners" },
    }],
    outputs: ["y"],
  },
  "resize with empty scales": {
    opset: 13,
    inputs: { x: { shape: [1, 1, 3, 4] } },
    stored: { none: float32([]), sizes: int(1, 1, 6, 8) },
    nodes: [{ op: "Resize", inputs: ["x", "", "none", "sizes"], outputs: ["y"] }],
    outputs: ["y"],
  },
  // onnx/onnx#4958: a window that would start beyond the picture is none.
  "average pool whose last window has nothing": one(19, "AveragePool", [1, 1, 4, 4], {
    kernel_shape: [1, 1],
    strides: [4, 4],
    ceil_mode: 1,
  }),
  "max pool whose last window reaches beyond": one(12, "MaxPool", [1, 1, 6, 5], {
    kernel_shape: [2, 2],
    strides: [4, 4],
    pads: [1, 1, 1, 1],
    ceil_mode: 1,
  }),
  "max pool with indices by column": {
    ...one(12, "MaxPool", [1, 2, 4, 4], { kernel_shape: [2, 2], storage_order: 1 }),
    nodes: [
      {
        op: "MaxPool",
        inputs: ["x"],
        outputs: ["z", "at"],
        attributes: { kernel_shape: [2, 2], strides: [2, 2], storage_order: 1 },
      },
      { op: "Cast", inputs: ["at"], outputs: ["y"], attributes: { to: 1 } },
    ],
  },
  "slice by attributes": one(9, "Slice", [4, 5], { starts: [1, -3], ends: [9, -1], axes: [0, 1] }),
  "pad by attributes": one(10, "Pad", [2, 3], { pads: [0, 1, 1, 2], value: { float: 0.5 } }),
  "clip by attributes": one(10, "Clip", [3, 4], { min: { float: -0.2 }, max: { float: 0.3 } }),
  "clip by one attribute": one(7, "Clip", [3, 4], { min: { float: 0 } }),
  "upsample by attribute": one(8, "Upsample", [1, 1, 2, 3], {
    mode: "linear",
    scales: { floats: [1, 1, 2, 2] },
  }),
  "upsample by input": one(9, "Upsample", [1, 1, 2, 3], { mode: "nearest" }, {
    scales: float32([1, 1, 2, 3]),
  }),
  "resize of opset 10": one(10, "Resize", [1, 1, 2, 4], { mode: "linear" }, {
    scales: float32([1, 1, 2, 1.5]),
  }),
  "resize of opset 10, smaller": one(10, "Resize", [1, 1, 5, 7], { mode: "nearest" }, {
    scales: float32([1, 1, 0.6, 0.5]),
  }),
  "hardmax over all later axes": one(11, "Hardmax", [2, 3, 4], { axis: 1 }),
  "hardmax of the last axis": one(13, "Hardmax", [2, 3, 4]),
  "one hot": {
    ...one(11, "OneHot", [2, 3]),
    stored: { at: int(0, -1, 2), depth: scalar(3), values: float32([0.5, 2]) },
    nodes: [
      { op: "OneHot", inputs: ["at", "depth", "values"], outputs: ["o"], attributes: { axis: 0 } },
      { op: "MatMul", inputs: ["x", "o"], outputs: ["y"] },
    ],
  },
  "batch normalization without spatial attribute": {
    ...one(7, "BatchNormalization", [2, 3, 4], { epsilon: { float: 1e-3 } }, {
      scale: float32([1, 2, 3]),
      bias: float32([0.1, 0.2, 0.3]),
      mean: float32([0.5, 0, -0.5]),
      variance: float32([1, 2, 0.5]),
    }),
  },
  "batch normalization in training": {
    ...one(15, "BatchNormalization", [2, 3, 4], { training_mode: 1 }, {
      scale: float32([1, 2, 3]),
      bias: float32([0.1, 0.2, 0.3]),
      mean: float32([0.5, 0, -0.5]),
      variance: float32([1, 2, 0.5]),
    }),
    nodes: [{
      op: "BatchNormalization",
      inputs: ["x", "scale", "bias", "mean", "variance"],
      outputs: ["y", "m", "v"],
      attributes: { training_mode: 1 },
    }],
    outputs: ["y", "m", "v"],
  },
  "max pool with storage order": one(12, "MaxPool", [1, 1, 4, 4], {
    kernel_shape: [2, 2],
    storage_order: 0,
  }),
  "cast like": {
    opset: 15,
    inputs: { x: { shape: [3] } },
    stored: { like: int(1) },
    nodes: [
      { op: "CastLike", inputs: ["x", "like"], outputs: ["whole"] },
      { op: "CastLike", inputs: ["whole", "x"], outputs: ["y"] },
    ],
    outputs: ["y"],
  },
  "cast that saturates": one(19, "Cast", [3], { to: 11, saturate: 1 }),
  "domain written out": { ...one(13, "Relu", [3]), nodes: [node("Relu", ["x"], {}, "ai.onnx")] },
  "GELU of ONNX Runtime": {
    ...one(17, "Gelu", [3]),
    nodes: [node("Gelu", ["x"], {}, "com.microsoft")],
  },
  "quick GELU of ONNX Runtime": {
    ...one(17, "QuickGelu", [3]),
    nodes: [node("QuickGelu", ["x"], { alpha: { float: 1.5 } }, "com.microsoft")],
  },
  "product of ONNX Runtime": {
    ...one(17, "FusedMatMul", [3, 2]),
    nodes: [
      node("FusedMatMul", ["x", "x"], { transA: 1, alpha: { float: 0.5 } }, "com.microsoft"),
    ],
  },
  "a shape read at run time": {
    opset: 13,
    inputs: { x: { shape: ["batch", 6, "width"] } },
    stored: { zero: int(0), rest: int(3, -1) },
    nodes: [
      { op: "Shape", inputs: ["x"], outputs: ["shape"] },
      { op: "Gather", inputs: ["shape", "zero"], outputs: ["batch"] },
      { op: "Concat", inputs: ["batch", "rest"], outputs: ["to"], attributes: { axis: 0 } },
      { op: "Reshape", inputs: ["x", "to"], outputs: ["y"] },
    ],
    outputs: ["y"],
  },
  "a stored tensor listed as an input": {
    ...one(13, "Add", [3], {}, { w: float32([1, 2, 3]) }),
    inputs: { x: { shape: [3] }, w: { shape: [3] } },
  },
};

function node(
  op: string,
  inputs: readonly string[],
  attributes: Readonly<Record<string, AttributeValue>> = {},
  domain = "",
): ForeignNode {
  return { op, domain, inputs, outputs: ["y"], attributes };
}

function one(
  opset: number,
  op: string,
  shape: Shape,
  attributes: Readonly<Record<string, AttributeValue>> = {},
  stored: Readonly<Record<string, Tensor>> = {},
): ForeignModel {
  return {
    opset,
    inputs: { x: { shape } },
    stored,
    nodes: [node(op, ["x", ...Object.keys(stored)], attributes)],
    outputs: ["y"],
  };
}

function parts(
  opset: number,
  attributes: Readonly<Record<string, AttributeValue>>,
  stored: Readonly<Record<string, Tensor>> = {},
): ForeignModel {
  return {
    opset,
    inputs: { x: { shape: [3, 4] } },
    stored,
    nodes: [{
      op: "Split",
      inputs: ["x", ...Object.keys(stored)],
      outputs: ["y", "z"],
      attributes,
    }],
    outputs: ["y", "z"],
  };
}

Deno.test("every older form of an operator gives what ONNX Runtime gives for the file", async (t) => {
  for (const [name, model] of Object.entries(FORMS)) {
    await t.step(name, async () => {
      const bytes = onnxBytes(model);
      const next = uniform(3);
      const shape = (model.inputs?.["x"]?.shape ?? []).map((d) => typeof d === "string" ? 2 : d);
      const x = randomTensor(next, { dtype: "float32", shape });
      const b = new Builder();
      const outputs = importModel(b, bytes, { inputs: { x: b.input("x", x) } });
      const [expected] = await evaluate(bytes, [{ x }]);
      const [found] = await evaluate(serialize(b, outputs), [{ x }]);
      for (const output of model.outputs) assertSame(found?.[output], expected?.[output]);
    });
  }
});

function assertSame(found: Tensor | undefined, expected: Tensor | undefined): void {
  assert(found !== undefined && expected !== undefined);
  assert.deepEqual([found.dtype, [...found.shape]], [expected.dtype, [...expected.shape]]);
  const reference = numbersOf(expected);
  const same = numbersOf(found).every((v, i) => Math.abs(v - (reference[i] ?? NaN)) < 1e-6);
  assert(same, `${numbersOf(found)} is not ${reference}`);
}

const matrix = int64([1, 2, 3, 4, 5, 6], [2, 3]);

/** Arithmetic on stored tensors: operator, inputs, attributes, how many outputs. */
const FOLDED: readonly (readonly [
  string,
  readonly Tensor[],
  Readonly<Record<string, AttributeValue>>?,
  number?,
])[] = [
  ["Identity", [matrix]],
  ["Reshape", [matrix, int(3, -1)]],
  ["Flatten", [int64([1, 2, 3, 4], [2, 1, 2])], { axis: 2 }],
  ["Squeeze", [int64([1, 2], [1, 2, 1])]],
  ["Unsqueeze", [matrix, int(0, -1)]],
  ["Expand", [int64([1, 2], [2, 1]), int(2, 1, 3)]],
  ["Transpose", [matrix]],
  ["Transpose", [int64([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2])], { perm: [2, 0, 1] }],
  ["Concat", [matrix, int64([7, 8], [2, 1]), matrix], { axis: -1 }],
  ["Split", [matrix, int(2, 1)], { axis: 1 }, 2],
  ["Slice", [matrix, int(-1), int(-9), int(1), int(-2)]],
  ["Slice", [matrix, int(0, 1), int64(BigInt64Array.of(9n, 2n ** 63n - 1n))]],
  ["Gather", [matrix, int(2, 0, -1)], { axis: 1 }],
  ["Gather", [matrix, scalar(1)]],
  ["Shape", [matrix], { start: -1 }],
  ["Size", [matrix]],
  ["Cast", [float32([1.7, -1.7, 0])], { to: 7 }],
  ["Cast", [int(0, 2, -1)], { to: 9 }],
  ["Cast", [int(3, 16777217)], { to: 1 }],
  ["Neg", [matrix]],
  ["Abs", [int(-3, 2)]],
  ["Sqrt", [float32([2, 9])]],
  ["Floor", [float32([1.5, -1.5])]],
  ["Ceil", [float32([1.5, -1.5])]],
  ["Not", [bool(1, 0)]],
  ["Add", [matrix, int(10, 20, 30)]],
  ["Sub", [scalar(7), matrix]],
  ["Mul", [matrix, int64([2, 3], [2, 1])]],
  ["Div", [int(7, -7, 6), scalar(2)]],
  ["Div", [float32([7, 1]), float32([2, 3])]],
  ["Mod", [int(7, -7, 7, -7), int(3, 3, -3, -3)]],
  ["Mod", [int(7, -7, 7, -7), int(3, 3, -3, -3)], { fmod: 1 }],
  ["Pow", [int(2, 3), scalar(3)]],
  ["Min", [int(1, 5), int(3, 2), int(2, 9)]],
  ["Max", [int(1, 5), int(3, 2)]],
  ["Equal", [matrix, scalar(3)]],
  ["Greater", [matrix, scalar(3)]],
  ["GreaterOrEqual", [matrix, scalar(3)]],
  ["Less", [matrix, scalar(3)]],
  ["LessOrEqual", [matrix, scalar(3)]],
  ["And", [bool(1, 1, 0), bool(1, 0, 0)]],
  ["Or", [bool(1, 1, 0), bool(1, 0, 0)]],
  ["Where", [bool(1, 0, 1), matrix, scalar(0)]],
  ["ReduceSum", [matrix, int(0)], { keepdims: 0 }],
  ["ReduceProd", [matrix], { keepdims: 0 }],
  ["ReduceMin", [matrix, int(-1)]],
  ["ReduceMax", [matrix, int(1)], { keepdims: 0 }],
  ["NonZero", [int64([0, 2, 3, 0, 0, 1], [2, 3])]],
  ["Range", [scalar(7), scalar(0), scalar(-3)]],
  ["Range", [float32([0], []), float32([1], []), float32([0.25], [])]],
  ["ConstantOfShape", [int(2, 3)]],
  ["ConstantOfShape", [int(2)], { value: { tensor: int(-1) } }],
  ["Constant", [], { value: { tensor: matrix } }],
  ["Constant", [], { value_float: { float: 0.5 } }],
  ["Constant", [], { value_floats: { floats: [0.5, 2] } }],
  ["Constant", [], { value_int: 3 }],
  ["Constant", [], { value_ints: [3, 4] }],
];

Deno.test("what depends on constants alone is computed at import, as ONNX Runtime would", async (t) => {
  for (const [op, tensors, attributes = {}, count = 1] of FOLDED) {
    await t.step(`${op} ${tensors.map(({ shape }) => `[${shape}]`)}`, async () => {
      const stored = Object.fromEntries(tensors.map((tensor, i) => [`c${i}`, tensor]));
      const outputs = Array.from({ length: count }, (_, i) => `y${i}`);
      const bytes = onnxBytes({
        opset: 20,
        stored,
        nodes: [{ op, inputs: Object.keys(stored), outputs, attributes }],
        outputs,
      });
      const [expected = {}] = await evaluate(bytes, [{}]);
      const b = new Builder();
      const found = importModel(b, bytes, { inputs: {} });
      assert.equal(b.nodes.length, 0);
      for (const name of outputs) {
        const [tensor, reference] = [constantOf(found[name]), expected[name]];
        assert(tensor !== undefined && reference !== undefined);
        assert.deepEqual(
          [tensor.dtype, [...tensor.shape], [...tensor.data]],
          [reference.dtype, [...reference.shape], [...reference.data]],
        );
      }
    });
  }
});

Deno.test("what is too large to compute at import stays a node", async () => {
  const bytes = onnxBytes({
    opset: 20,
    stored: { shape: int(200, 200), value: float32([0.5]) },
    nodes: [
      { op: "ConstantOfShape", inputs: ["shape"], outputs: ["zeros"] },
      { op: "Add", inputs: ["zeros", "value"], outputs: ["y"] },
    ],
    outputs: ["y"],
  });
  const b = new Builder();
  const outputs = importModel(b, bytes, { inputs: {} });
  assert.deepEqual(b.nodes.map(({ op }) => op), ["Expand", "Add"]);
  const [found] = await evaluate(serialize(b, outputs), [{}]);
  assert(found?.["y"]?.data.every((v: number | bigint) => v === 0.5));
});
