import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  AttributeProto_AttributeType,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  TensorProto_DataLocation,
  TensorProto_DataType,
} from "onnx-buf";
import {
  Builder,
  float32,
  ImportError,
  importModel,
  int64,
  type Shape,
} from "../../autodiff/mod.ts";
import { type ForeignModel, type ForeignNode, onnxModel } from "./_onnx_model.ts";

/** x [2, 3] through one node. */
const simple = (
  node: Partial<ForeignNode> = {},
  model: Partial<ForeignModel> = {},
): ForeignModel => ({
  opset: 17,
  inputs: { x: { shape: [2, 3] } },
  nodes: [{ op: "Relu", name: "n", inputs: ["x"], outputs: ["y"], ...node }],
  outputs: ["y"],
  ...model,
});

/** Imports a model after a change to its message. */
function load(
  model: ForeignModel,
  { change = () => {}, shapes = { x: [2, 3] }, folder = "" }: {
    change?: (model: ModelProto) => void;
    shapes?: Readonly<Record<string, Shape>>;
    folder?: string;
  } = {},
) {
  const proto = onnxModel(model);
  change(proto);
  const b = new Builder();
  const inputs = Object.fromEntries(
    Object.entries(shapes).map((
      [name, shape],
    ) => [name, b.input(name, { dtype: "float32", shape })]),
  );
  const outputs = importModel(b, toBinary(ModelProtoSchema, proto), { inputs, folder });
  return { b, outputs };
}

/** Asserts that importing fails with a message. */
function refuses(message: RegExp, ...args: Parameters<typeof load>): void {
  assert.throws(
    () => load(...args),
    (error) => {
      assert(error instanceof ImportError, String(error));
      assert.match(error.message, message);
      return true;
    },
  );
}

Deno.test("a file that is no model, or not one that is supported, is refused", () => {
  const b = new Builder();
  const import_ = (bytes: Uint8Array) => importModel(b, bytes, { inputs: {} });
  assert.throws(() => import_(new TextEncoder().encode("not a model")), ImportError);
  assert.throws(() => import_(new Uint8Array()), /Model has no graph/);
  refuses(/Model has ONNX opset 6, expected 7 or a newer one/, simple({}, { opset: 6 }));
  refuses(/Model has ONNX opset none/, simple(), { change: (m) => m.opsetImport = [] });
  refuses(/Function "f" calls itself/, simple({ op: "f" }), {
    change: (m) => {
      const made = create(ModelProtoSchema, {
        functions: [{
          name: "f",
          input: ["a"],
          output: ["b"],
          node: [{ opType: "f", input: ["a"], output: ["b"] }],
        }],
      });
      m.functions = made.functions;
    },
  });
  refuses(/Model has 100001 nodes, at most 100000 are allowed/, simple(), {
    change: ({ graph }) => {
      const [node] = graph?.node ?? [];
      if (graph && node) graph.node = Array.from({ length: 100_001 }, () => node);
    },
  });
  const sparse = (dims: readonly bigint[], at: readonly bigint[]) => ({ graph }: ModelProto) => {
    const made = create(GraphProtoSchema, {
      sparseInitializer: [{
        values: { name: "s", dataType: TensorProto_DataType.FLOAT, dims: [1n], floatData: [1] },
        indices: { dataType: TensorProto_DataType.INT64, dims: [1n], int64Data: [...at] },
        dims: [...dims],
      }],
    });
    graph?.sparseInitializer.push(...made.sparseInitializer);
  };
  const sum = simple({ op: "Add", inputs: ["x", "s"] });
  refuses(/Sparse tensor "s" has an entry at 3/, sum, { change: sparse([3n], [3n]) });
  refuses(/Sparse tensor "s" has an entry at -1/, sum, { change: sparse([3n], [-1n]) });
  refuses(/Sparse tensor "s" has shape .* at most 16777216 entries/, sum, {
    change: sparse([2n ** 20n, 2n ** 20n], [0n]),
  });
  load(sum, { change: sparse([3n], [2n]) });
});

Deno.test("a truncated file is refused, wherever it ends", async () => {
  const bytes = await Deno.readFile(new URL("models/cnn_opset20.onnx", import.meta.url));
  let refused = 0;
  for (let end = 0; end < bytes.length; end += 61) {
    const b = new Builder();
    const image = b.input("image", { dtype: "float32", shape: [1, 3, 20, 20] });
    try {
      importModel(b, bytes.subarray(0, end), { inputs: { image } });
    } catch (error) {
      assert(error instanceof ImportError, String(error));
      refused++;
    }
  }
  assert.equal(refused, Math.ceil(bytes.length / 61));
});

Deno.test("a node that cannot be taken is named", () => {
  refuses(
    /^Node "n" \(TfIdfVectorizer\): Operator TfIdfVectorizer is not supported$/,
    simple({
      op: "TfIdfVectorizer",
    }),
  );
  refuses(
    /^Node that makes "y" \(Unique\): Operator Unique is not supported: the size/,
    simple({
      op: "Unique",
      name: "",
    }),
  );
  refuses(
    /Operator RandomNormalLike is not supported: it draws at random/,
    simple({
      op: "RandomNormalLike",
    }),
  );
  refuses(
    /Compress chooses by values that are only known in a run/,
    simple({
      op: "Compress",
      inputs: ["x", "x"],
    }),
  );
  for (const op of ["StopGradient", "GroupNormalizationGrad"]) {
    refuses(new RegExp(`Operator ${op} is not supported`), simple({ op }));
  }
  refuses(
    /Operator com.microsoft.Relu is not supported/,
    simple({ domain: "com.microsoft" }),
  );
  refuses(/Domain "a.b" has no version/, simple({ domain: "a.b" }));
  refuses(
    /Node "n" \(Clip\): Attribute then_branch of type GRAPH is not supported/,
    simple({ op: "Clip" }),
    {
      change: ({ graph }) => {
        const made = create(GraphProtoSchema, {
          node: [{
            attribute: [{ name: "then_branch", type: AttributeProto_AttributeType.GRAPH }],
          }],
        });
        graph?.node[0]?.attribute.push(...made.node[0]?.attribute ?? []);
      },
    },
  );
  refuses(/Node "n" \(If\): Attribute else_branch is missing, expected a graph/, {
    ...simple({ op: "If", inputs: ["off"] }, {
      stored: { off: { dtype: "bool", shape: [], data: Uint8Array.of(0) } },
    }),
  });
  refuses(
    /Node "n" \(Dropout\): .*Dropout is in training mode and draws at random/,
    simple({ op: "Dropout", inputs: ["x", "", "on"] }, {
      stored: { on: { dtype: "bool", shape: [], data: Uint8Array.of(1) } },
    }),
  );
  refuses(
    /BatchNormalization needs five inputs/,
    simple({ op: "BatchNormalization", attributes: { training_mode: 1 } }),
  );
  refuses(/Attribute "shape" is unknown/, simple({ attributes: { shape: [1] } }));
  refuses(
    /Node "n" \(Reshape\): .*Shape must be a constant, "x" is computed/,
    simple({ op: "Reshape", inputs: ["x", "x"] }),
  );
  refuses(/Input 0 must be a constant, it is computed/, simple({ op: "NonZero" }));
  refuses(
    /Node "n" \(MatMul\): .*Inner dimensions differ: 3 and 2/,
    simple({ op: "MatMul", inputs: ["x", "x"] }),
  );
});

Deno.test("what no output needs is not looked at", () => {
  const { b, outputs } = load({
    ...simple(),
    nodes: [
      { op: "Unique", inputs: ["x"], outputs: ["unused"] },
      { op: "Relu", inputs: ["x"], outputs: ["y"] },
    ],
  });
  assert.deepEqual(b.nodes.map(({ op }) => op), ["Relu"]);
  assert.deepEqual(outputs["y"]?.shape, [2, 3]);
});

Deno.test("names that are missing or repeated are refused", () => {
  refuses(/"z" is not defined before it is used/, simple({ inputs: ["z"] }));
  refuses(/"z" is not defined before it is used/, simple({}, { outputs: ["z"] }));
  refuses(/"x" is defined twice/, simple({ outputs: ["x"] }, { outputs: ["x"] }));
  const relu = (from: string, to: string): ForeignNode => ({
    op: "Relu",
    inputs: [from],
    outputs: [to],
  });
  refuses(/"a" is not defined before it is used/, {
    ...simple(),
    nodes: [relu("a", "y"), relu("x", "a")],
  });
});

Deno.test("inputs must be those of the model", () => {
  refuses(/Input "x" is missing; the model takes "x"/, simple(), { shapes: {} });
  refuses(/Input "z" is unknown; the model takes "x"/, simple(), { shapes: { x: [2, 3], z: [1] } });
  refuses(/Input "x" is float32\[2,4\], expected float32\[2,3\]/, simple(), {
    shapes: { x: [2, 4] },
  });
  refuses(/Input "x" is float32\[2\], expected float32\[2,3\]/, simple(), { shapes: { x: [2] } });
  refuses(/Input "x" is float32\[2,3\], expected int64\[2,3\]/, simple(), {
    change: ({ graph }) => {
      const type = graph?.input[0]?.type?.value;
      if (type?.case === "tensorType") type.value.elemType = TensorProto_DataType.INT64;
    },
  });
  refuses(/"x" has ONNX data type STRING, which is not supported/, simple(), {
    change: ({ graph }) => {
      const type = graph?.input[0]?.type?.value;
      if (type?.case === "tensorType") type.value.elemType = TensorProto_DataType.STRING;
    },
  });
  const two = simple({ op: "Add", inputs: ["x", "z"] }, {
    inputs: { x: { shape: ["n"] }, z: { shape: ["n"] } },
  });
  refuses(/Input "z" is float32\[4\], expected float32\[3\]/, two, { shapes: { x: [3], z: [4] } });
  assert.deepEqual(load(two, { shapes: { x: [3], z: [3] } }).outputs["y"]?.shape, [3]);
});

Deno.test("stored tensors that are not what they declare are refused", () => {
  const model = simple({ op: "Add", inputs: ["x", "w"] }, { stored: { w: float32([1, 2, 3]) } });
  const stored = (message: RegExp, dims: readonly bigint[]) =>
    refuses(message, model, {
      change: ({ graph }) => {
        const [tensor] = graph?.initializer ?? [];
        if (tensor) tensor.dims = [...dims];
      },
    });
  stored(/Tensor "w" holds 12 bytes, float32\[4\] needs 16/, [4n]);
  stored(/Tensor "w" declares shape \[-3\]/, [-3n]);
  stored(/Tensor "w" holds 12 bytes, float32\[1000000,1000000\] needs/, [1_000_000n, 1_000_000n]);
  stored(/Tensor "w" declares shape/, [2n ** 40n, 2n ** 40n]);
  refuses(/Tensor "w" holds 2 entries, float32\[3\] needs 3/, model, {
    change: ({ graph }) => {
      const [tensor] = graph?.initializer ?? [];
      if (tensor) [tensor.rawData, tensor.floatData] = [new Uint8Array(), [1, 2]];
    },
  });
});

Deno.test("values of more entries than allowed are refused before anything is made of them", () => {
  refuses(
    /"y" has shape \[1099511627776\]: more than 268435456 entries/,
    simple({ op: "ConstantOfShape", inputs: ["shape"] }, { stored: { shape: int64([2 ** 40]) } }),
  );
  refuses(
    /expected constants/,
    simple({ op: "Range", inputs: ["a", "b", "a"] }, {
      stored: { a: float32([1], []), b: float32([1e30], []) },
    }),
  );
});

Deno.test("weights stay in files of the model's folder", () => {
  const model = simple({ op: "Add", inputs: ["x", "w"] }, { stored: { w: float32([1, 2, 3]) } });
  const external = (entries: Readonly<Record<string, string>>) => ({ graph }: ModelProto) => {
    const [tensor] = graph?.initializer ?? [];
    if (tensor === undefined) return;
    tensor.rawData = new Uint8Array();
    tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
    const made = create(GraphProtoSchema, {
      initializer: [{
        externalData: Object.entries(entries).map(([key, value]) => ({ key, value })),
      }],
    });
    tensor.externalData = made.initializer[0]?.externalData ?? [];
  };
  const outside = ["../w", "/w", "a/../w", "a/./w", "a//w", "a\\w", "C:w", "", ".", "..", "a\0b"];
  for (const location of outside) {
    refuses(/expected a path inside the model's folder/, model, { change: external({ location }) });
  }
  const at = (entries: Readonly<Record<string, string>>) => ({
    change: external({ location: "w.bin", ...entries }),
  });
  refuses(/Tensor "w" has offset "-4", expected bytes/, model, at({ offset: "-4" }));
  refuses(/Tensor "w" has offset "1e3", expected bytes/, model, at({ offset: "1e3" }));
  refuses(/Tensor "w" holds 16 bytes, float32\[3\] needs 12/, model, at({ length: "16" }));
  const { b } = load(model, { ...at({ offset: "8" }), folder: "scorers/mine" });
  assert.deepEqual(b.nodes[0]?.inputs[1]?.source, {
    kind: "weight",
    location: { file: "scorers/mine/w.bin", offset: 8 },
  });
});
