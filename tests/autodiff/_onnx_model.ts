import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProto_AttributeType as AttributeType,
  AttributeProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  NodeProtoSchema,
  type TensorProto,
  TensorProto_DataType,
  TensorProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "onnx-buf";
import type { Tensor } from "../../autodiff/mod.ts";

/** An attribute as JavaScript writes it: a whole number is an int, `{ float }` a float. */
export type AttributeValue =
  | number
  | string
  | readonly number[]
  | { readonly float: number }
  | { readonly tensor: Tensor }
  | { readonly floats: readonly number[] };

/** One node of a model file. */
export interface ForeignNode {
  readonly op: string;
  readonly domain?: string;
  readonly name?: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, AttributeValue>>;
}

/** A model file written by hand. */
export interface ForeignModel {
  readonly opset: number;
  readonly inputs?: Readonly<Record<string, { readonly shape: readonly (number | string)[] }>>;
  readonly stored?: Readonly<Record<string, Tensor>>;
  readonly nodes: readonly ForeignNode[];
  readonly outputs: readonly string[];
}

/** A model message; float32 inputs. */
export function onnxModel(
  { opset, inputs = {}, stored = {}, nodes, outputs }: ForeignModel,
): ModelProto {
  return create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [
      { domain: "", version: BigInt(opset) },
      { domain: "com.microsoft", version: 1n },
    ],
    graph: {
      name: "test",
      input: Object.entries(inputs).map(([name, { shape }]) => valueInfo(name, shape)),
      output: outputs.map((name) => create(ValueInfoProtoSchema, { name })),
      initializer: Object.entries(stored).map(([name, tensor]) => tensorProto(name, tensor)),
      node: nodes.map(({ op, domain = "", name = "", inputs, outputs, attributes = {} }) =>
        create(NodeProtoSchema, {
          opType: op,
          domain,
          name,
          input: [...inputs],
          output: [...outputs],
          attribute: Object.entries(attributes).map(([key, value]) => attribute(key, value)),
        })
      ),
    },
  });
}

/** The bytes of a model file. */
export function onnxBytes(model: ForeignModel): Uint8Array {
  return toBinary(ModelProtoSchema, onnxModel(model));
}

/** A tensor of a model file. */
export function tensorProto(name: string, { dtype, shape, data }: Tensor): TensorProto {
  const codes = {
    float32: TensorProto_DataType.FLOAT,
    float64: TensorProto_DataType.DOUBLE,
    float16: TensorProto_DataType.FLOAT16,
    bfloat16: TensorProto_DataType.BFLOAT16,
    int64: TensorProto_DataType.INT64,
    int32: TensorProto_DataType.INT32,
    int8: TensorProto_DataType.INT8,
    uint8: TensorProto_DataType.UINT8,
    bool: TensorProto_DataType.BOOL,
  };
  return create(TensorProtoSchema, {
    name,
    dataType: codes[dtype],
    dims: shape.map(BigInt),
    rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice(),
  });
}

function valueInfo(name: string, shape: readonly (number | string)[]): ValueInfoProto {
  const dim = shape.map((d) => ({
    value: typeof d === "string"
      ? { case: "dimParam" as const, value: d }
      : { case: "dimValue" as const, value: BigInt(d) },
  }));
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: "tensorType",
        value: { elemType: TensorProto_DataType.FLOAT, shape: { dim } },
      },
    },
  });
}

function attribute(name: string, value: AttributeValue): AttributeProto {
  const made = (fields: MessageInitShape<typeof AttributeProtoSchema>) => {
    const proto = create(AttributeProtoSchema, fields);
    proto.name = name;
    return proto;
  };
  if (typeof value === "number") return made({ type: AttributeType.INT, i: BigInt(value) });
  if (typeof value === "string") {
    return made({ type: AttributeType.STRING, s: new TextEncoder().encode(value) });
  }
  if ("float" in value) return made({ type: AttributeType.FLOAT, f: value.float });
  if ("tensor" in value) {
    return made({ type: AttributeType.TENSOR, t: tensorProto("", value.tensor) });
  }
  if ("floats" in value) return made({ type: AttributeType.FLOATS, floats: [...value.floats] });
  return made({ type: AttributeType.INTS, ints: value.map(BigInt) });
}
