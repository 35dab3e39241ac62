import { fromBinary } from "@bufbuild/protobuf";
import {
  type GraphProto,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProto_DataType,
  type ValueInfoProto,
} from "onnx-buf";
import { RuntimeError } from "./errors.ts";

/** Where in which file a tensor of a model lies. */
export interface ExternalData {
  readonly tensor: string;
  /** As written in the model: relative to its folder. */
  readonly location: string;
  readonly offset: number;
  /** 0 when the model does not say; ONNX Runtime then takes what the shape needs. */
  readonly length: number;
}

/** What must be known of a model before, or cannot be asked of, an ONNX Runtime session. */
export interface ModelFacts {
  /** Inputs declared with shape []: ONNX Runtime does not tell them from inputs without a shape. */
  readonly scalarInputs: ReadonlySet<string>;
  readonly externalData: readonly ExternalData[];
}

/** Reads the facts from a serialized model. Throws `RuntimeError` "model_invalid" when it is none. */
export function readModelFacts(bytes: Uint8Array, name: string): ModelFacts {
  const model = parse(bytes, name);
  const { graph } = model;
  if (!graph) throw new RuntimeError("model_invalid", `Model '${name}' has no graph`);
  // A weight that may be fed, but has a value, is never exchanged.
  const own = new Set(graph.initializer.map((tensor) => tensor.name));
  const exchanged = graph.input.filter((value) => !own.has(value.name));
  for (const value of [...exchanged, ...graph.output]) {
    if (tensorType(value)?.elemType === TensorProto_DataType.BFLOAT16) {
      throw new RuntimeError(
        "model_invalid",
        `Model '${name}' takes or returns '${value.name}' as bfloat16, which the onnxruntime-node ` +
          `binding cannot exchange; cast it inside the graph`,
      );
    }
  }
  const scalars = graph.input.filter((value) => tensorType(value)?.shape?.dim.length === 0);
  const external = tensorsOf(model)
    .filter((tensor) => tensor.dataLocation === TensorProto_DataLocation.EXTERNAL)
    .map(externalData);
  return {
    scalarInputs: new Set(scalars.map((value) => value.name)),
    externalData: [...external],
  };
}

function parse(bytes: Uint8Array, name: string): ModelProto {
  try {
    return fromBinary(ModelProtoSchema, bytes);
  } catch (cause) {
    throw new RuntimeError("model_invalid", `Model '${name}' is not an ONNX file: ${cause}`, {
      cause,
    });
  }
}

function tensorType(value: ValueInfoProto) {
  return value.type?.value.case === "tensorType" ? value.type.value.value : undefined;
}

/** All tensors of a model: in its graph, in the graphs inside its nodes, and in its functions. */
function* tensorsOf(model: ModelProto): Generator<TensorProto> {
  if (model.graph) yield* tensorsOfGraph(model.graph);
  for (const { node } of model.functions) yield* tensorsOfNodes(node);
}

function* tensorsOfGraph(graph: GraphProto): Generator<TensorProto> {
  yield* graph.initializer;
  for (const { values, indices } of graph.sparseInitializer) {
    if (values) yield values;
    if (indices) yield indices;
  }
  yield* tensorsOfNodes(graph.node);
}

function* tensorsOfNodes(nodes: readonly NodeProto[]): Generator<TensorProto> {
  for (const { attribute } of nodes) {
    for (const { t, tensors, g, graphs } of attribute) {
      if (t) yield t;
      yield* tensors;
      if (g) yield* tensorsOfGraph(g);
      for (const graph of graphs) yield* tensorsOfGraph(graph);
    }
  }
}

function externalData(tensor: TensorProto): ExternalData {
  const entries = new Map(tensor.externalData.map(({ key, value }) => [key, value]));
  const integer = (key: string) => {
    const text = entries.get(key) ?? "0";
    const value = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
    throw new RuntimeError(
      "model_invalid",
      `External data of '${tensor.name}' has ${key} '${text}', expected a number of bytes`,
    );
  };
  return {
    tensor: tensor.name,
    location: entries.get("location") ?? "",
    offset: integer("offset"),
    length: integer("length"),
  };
}
