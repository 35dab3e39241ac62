import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  AttributeProto_AttributeType,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProto_DataLocation,
  TensorProto_DataType as Onnx,
  TensorProtoSchema,
  ValueInfoProtoSchema,
} from "onnx-buf";

type Node = MessageInitShape<typeof NodeProtoSchema>;
type Initializer = MessageInitShape<typeof TensorProtoSchema>;

/** Serializes a graph of plain ONNX operators (opset 20). */
export function serialize(graph: MessageInitShape<typeof GraphProtoSchema>): Uint8Array {
  const model = create(ModelProtoSchema, {
    irVersion: 10n,
    opsetImport: [{ version: 20n }],
    graph: { name: "tiny", ...graph },
  });
  return toBinary(ModelProtoSchema, model);
}

/** Declares a graph input or output; a named dimension may vary, and no shape means any. */
export function value(name: string, elemType: Onnx, shape?: readonly (number | string)[]) {
  const dim = shape?.map((size) =>
    typeof size === "string"
      ? { value: { case: "dimParam", value: size } as const }
      : { value: { case: "dimValue", value: BigInt(size) } as const }
  );
  return create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: "tensorType", value: { elemType, ...(dim && { shape: { dim } }) } } },
  });
}

/** y = operator(x), both of one type. */
export function unary(opType: string, elemType: Onnx, shape?: readonly (number | string)[]) {
  return serialize({
    node: [{ opType, input: ["x"], output: ["y"] }],
    input: [value("x", elemType, shape)],
    output: [value("y", elemType, shape)],
  });
}

/** sum = a + b and product = a * b, of float32 [rows, 2]. */
export function sumAndProduct(): Uint8Array {
  const names = ["a", "b"];
  return serialize({
    node: [
      { opType: "Add", input: names, output: ["sum"] },
      { opType: "Mul", input: names, output: ["product"] },
    ],
    input: names.map((name) => value(name, Onnx.FLOAT, ["rows", 2])),
    output: ["sum", "product"].map((name) => value(name, Onnx.FLOAT, ["rows", 2])),
  });
}

/** end = start + steps, one at a time: takes as long as one likes. `steps` is int64 [], the others float32 []. */
export function counting(): Uint8Array {
  const body: Node["attribute"] = [{
    name: "body",
    type: AttributeProto_AttributeType.GRAPH,
    g: {
      name: "body",
      node: [
        { opType: "Add", input: ["before", "one"], output: ["after"] },
        { opType: "Identity", input: ["goOn"], output: ["goOnStill"] },
      ],
      initializer: [{ name: "one", dataType: Onnx.FLOAT, floatData: [1] }],
      input: [
        value("i", Onnx.INT64, []),
        value("goOn", Onnx.BOOL, []),
        value("before", Onnx.FLOAT, []),
      ],
      output: [value("goOnStill", Onnx.BOOL, []), value("after", Onnx.FLOAT, [])],
    },
  }];
  return serialize({
    node: [{
      opType: "Loop",
      input: ["steps", "", "start"],
      output: ["end"],
      attribute: body,
    }],
    input: [value("steps", Onnx.INT64, []), value("start", Onnx.FLOAT, [])],
    output: [value("end", Onnx.FLOAT, [])],
  });
}

/** An initializer whose data lies in a file. */
export function external(
  name: string,
  dataType: Onnx,
  { dims, ...where }: {
    readonly dims: readonly number[];
    readonly location: string;
    readonly offset: number;
    readonly length?: number;
  },
): Initializer {
  return {
    name,
    dataType,
    dims: dims.map(BigInt),
    dataLocation: TensorProto_DataLocation.EXTERNAL,
    externalData: Object.entries(where).map(([key, value]) => ({ key, value: String(value) })),
  };
}
