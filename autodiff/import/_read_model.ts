import { fromBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProto_AttributeType as AttributeType,
  type GraphProto,
  type ModelProto,
  ModelProtoSchema,
  type ValueInfoProto,
} from "onnx-buf";
import { type Attribute, float, int, ints, string } from "../attributes.ts";
import { ImportError } from "../errors.ts";
import type { DType } from "../tensor.ts";
import { dtypeOf } from "./_read_tensor.ts";

/** Oldest and newest ONNX opset that is read. */
export const OPSETS = { oldest: 11, newest: 22 } as const;

/** Most nodes a model may have. */
export const MOST_NODES = 100_000;

/** A model file, checked as a whole. */
export interface ForeignModel {
  readonly graph: GraphProto;
  /** Version of every domain's operators; ONNX's own is "". */
  readonly versions: ReadonlyMap<string, number>;
}

/** An input or output as a model declares it. */
export interface DeclaredValue {
  readonly name: string;
  readonly dtype: DType;
  /** Sizes, and names of those that may vary ("" where they have none); `undefined` where the rank may too. */
  readonly shape: readonly (number | string)[] | undefined;
}

/** Reads a model file. Throws `ImportError` where it is none, too old or new, or too large. */
export function readModel(bytes: Uint8Array): ForeignModel {
  const { graph, opsetImport, functions } = parseModel(bytes);
  if (graph === undefined) throw new ImportError("Model has no graph");
  const [called] = functions;
  if (called !== undefined) {
    throw new ImportError(
      `Model calls functions of its own ("${called.name}"), which is not supported; inline them`,
    );
  }
  const [sparse] = graph.sparseInitializer;
  if (sparse !== undefined) {
    throw new ImportError(`Tensor "${sparse.values?.name}" is sparse, which is not supported`);
  }
  if (graph.node.length > MOST_NODES) {
    throw new ImportError(
      `Model has ${graph.node.length} nodes, at most ${MOST_NODES} are allowed`,
    );
  }
  const versions = new Map(
    opsetImport.map(({ domain, version }) => [domain === "ai.onnx" ? "" : domain, Number(version)]),
  );
  const opset = versions.get("");
  if (opset === undefined || opset < OPSETS.oldest || opset > OPSETS.newest) {
    throw new ImportError(
      `Model has ONNX opset ${opset ?? "none"}, expected ${OPSETS.oldest} to ${OPSETS.newest}`,
    );
  }
  return { graph, versions };
}

/** The message of a model file. */
export function parseModel(bytes: Uint8Array): ModelProto {
  try {
    return fromBinary(ModelProtoSchema, bytes);
  } catch (cause) {
    throw new ImportError("Model is not an ONNX file, or damaged", { cause });
  }
}

/** What a model says of an input or output. */
export function declared({ name, type }: ValueInfoProto): DeclaredValue {
  if (type?.value.case !== "tensorType") throw new ImportError(`"${name}" is no tensor`);
  const { elemType, shape } = type.value.value;
  return {
    name,
    dtype: dtypeOf(elemType, name),
    shape: shape?.dim.map(({ value }) =>
      value.case === "dimValue" ? Number(value.value) : value.value ?? ""
    ),
  };
}

/** Inputs that a caller feeds: older models list stored tensors among them. */
export function fedInputs({ graph }: ForeignModel): readonly DeclaredValue[] {
  const stored = new Set(graph.initializer.map(({ name }) => name));
  return graph.input.filter(({ name }) => !stored.has(name)).map(declared);
}

/** An attribute, where it has a type that operators of graphs have. */
export function readAttribute(a: AttributeProto): Attribute {
  switch (a.type) {
    case AttributeType.INT:
      return int(Number(a.i));
    case AttributeType.FLOAT:
      return float(a.f);
    case AttributeType.STRING:
      return string(new TextDecoder().decode(a.s));
    case AttributeType.INTS:
      return ints(a.ints.map(Number));
    default:
      throw new ImportError(
        `Attribute ${a.name} of type ${AttributeType[a.type]} is not supported`,
      );
  }
}
