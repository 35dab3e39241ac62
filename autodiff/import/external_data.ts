import { create, toBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema, TensorProto_DataLocation, TensorProtoSchema } from "onnx-buf";
import { byteLengthOf, type WeightLocation } from "../graph.ts";
import { onnxOfDType } from "../onnx_dtype.ts";
import type { Tensor } from "../tensor.ts";
import { parseModel, readModel } from "./_read_model.ts";
import { readTensor } from "./_read_tensor.ts";

/** The tensors that a model file stores, by where they are. */
export interface StoredTensors {
  /** In the file itself. */
  readonly inline: ReadonlyMap<string, Tensor>;
  /** In other files, at paths relative to the folder of the model. */
  readonly external: ReadonlyMap<string, WeightLocation>;
}

/** Reads the tensors of a model file. Throws `ImportError` as `importModel` does. */
export function storedTensors(bytes: Uint8Array): StoredTensors {
  const inline = new Map<string, Tensor>();
  const external = new Map<string, WeightLocation>();
  for (const proto of readModel(bytes).graph.initializer) {
    const stored = readTensor(proto);
    if (stored.kind === "inline") inline.set(proto.name, stored.tensor);
    else external.set(proto.name, stored.location);
  }
  return { inline, external };
}

/** The same model file, but for tensors that now lie in other files, where several sessions can share them. */
export function withExternalTensors(
  bytes: Uint8Array,
  locations: ReadonlyMap<string, WeightLocation>,
): Uint8Array {
  const model = parseModel(bytes);
  const { graph } = model;
  if (graph === undefined) return bytes;
  graph.initializer = graph.initializer.map((proto) => {
    const location = locations.get(proto.name);
    if (location === undefined) return proto;
    const stored = readTensor(proto);
    if (stored.kind === "external") return proto;
    const { name, dims } = proto;
    // Of a width that graphs have: see `readTensor`.
    const dataType = onnxOfDType(stored.tensor.dtype);
    return create(TensorProtoSchema, {
      name,
      dataType,
      dims,
      dataLocation: TensorProto_DataLocation.EXTERNAL,
      externalData: [
        { key: "location", value: location.file },
        { key: "offset", value: String(location.offset) },
        { key: "length", value: String(byteLengthOf(stored.tensor)) },
      ],
    });
  });
  return toBinary(ModelProtoSchema, model);
}
