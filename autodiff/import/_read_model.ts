import { fromBinary } from "@bufbuild/protobuf";
import {
  type FunctionProto,
  type GraphProto,
  type ModelProto,
  ModelProtoSchema,
  type ValueInfoProto,
} from "onnx-buf";
import { ImportError } from "../errors.ts";
import type { DType } from "../tensor.ts";
import { dtypeOf } from "./_read_tensor.ts";

/** Oldest ONNX opset that is read. There is no newest: operators keep their meaning, and unknown attributes are refused. */
export const OLDEST_OPSET = 7;

/** Most nodes a model may have, with those of functions and loops as often as they run. */
export const MOST_NODES = 100_000;

/** A model file, checked as a whole. */
export interface ForeignModel {
  readonly graph: GraphProto;
  /** Version of every domain's operators; ONNX's own is "". */
  readonly versions: ReadonlyMap<string, number>;
  /** Functions of its own, by `functionKey`. */
  readonly functions: ReadonlyMap<string, FunctionProto>;
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
  if (graph.node.length > MOST_NODES) {
    throw new ImportError(
      `Model has ${graph.node.length} nodes, at most ${MOST_NODES} are allowed`,
    );
  }
  const versions = versionsOf(opsetImport);
  const opset = versions.get("");
  if (opset === undefined || opset < OLDEST_OPSET) {
    throw new ImportError(
      `Model has ONNX opset ${opset ?? "none"}, expected ${OLDEST_OPSET} or a newer one`,
    );
  }
  return { graph, versions, functions: new Map(functions.map((f) => [functionKey(f), f])) };
}

/** Versions of operators' domains; ONNX's own is "". */
export function versionsOf(
  imports: readonly { readonly domain: string; readonly version: bigint }[],
): ReadonlyMap<string, number> {
  return new Map(
    imports.map(({ domain, version }) => [domain === "ai.onnx" ? "" : domain, Number(version)]),
  );
}

/** What tells a model's functions apart. */
export function functionKey(
  { domain, name, overload }: {
    readonly domain: string;
    readonly name: string;
    readonly overload: string;
  },
): string {
  return JSON.stringify([domain === "ai.onnx" ? "" : domain, name, overload]);
}

/** The message of a model file. */
export function parseModel({ buffer, byteOffset, byteLength }: Uint8Array): ModelProto {
  try {
    // A file may come as a `Buffer`, whose slices are no copies: tensors would lie where no number may.
    return fromBinary(ModelProtoSchema, new Uint8Array(buffer, byteOffset, byteLength));
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
    // Some exporters write -1 or 0 for a size that may vary.
    shape: shape?.dim.map(({ value }) =>
      value.case === "dimValue" ? (value.value > 0n ? Number(value.value) : "") : value.value ?? ""
    ),
  };
}

/** Inputs that a caller feeds: older models list stored tensors among them. */
export function fedInputs({ graph }: ForeignModel): readonly DeclaredValue[] {
  const stored = new Set([
    ...graph.initializer.map(({ name }) => name),
    ...graph.sparseInitializer.map(({ values }) => values?.name),
  ]);
  return graph.input.filter(({ name }) => !stored.has(name)).map(declared);
}
