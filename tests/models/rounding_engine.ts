import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  AttributeProto_AttributeType as AttributeType,
  AttributeProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  TensorProto_DataType as Onnx,
} from "onnx-buf";
import type { Engine } from "../../runtime/mod.ts";

/**
 * An engine whose operators in float16 round and overflow, as a GPU's do: they compute in float32, and what they make is
 * cast there and back. The CPU provider has few kernels for float16. It converts around the others and takes conversions
 * away where two meet, so that most of what a graph says is in float16 is float32.
 */
export function roundingEngine(engine: Engine): Engine {
  return {
    pid: engine.pid,
    load: ({ bytes, weightsRoot }, options) =>
      engine.load(
        { bytes: roundedToHalf(bytes), ...(weightsRoot !== undefined && { weightsRoot }) },
        { ...options, graphOptimizationLevel: "disabled" },
      ),
    place: (name) => engine.place(name),
    keep: (place, tensor) => engine.keep(place, tensor),
    forget: (...places) => engine.forget(...places),
    cpuSeconds: () => engine.cpuSeconds(),
    close: () => engine.close(),
  };
}

function roundedToHalf(bytes: Uint8Array): Uint8Array {
  const model = fromBinary(ModelProtoSchema, bytes);
  const { graph } = model;
  if (graph === undefined) throw new RangeError("The model has no graph");
  const half = new Set(
    graph.initializer.filter(({ dataType }) => dataType === Onnx.FLOAT16).map(({ name }) => name),
  );
  const wide = (name: string) => half.has(name) ? `${name}/float32` : name;
  const nodes = [...half].map((name) => cast([name, wide(name)], Onnx.FLOAT));
  for (const node of graph.node) {
    const reads = node.input.some((name) => half.has(name));
    const to = node.opType === "Cast" ? Number(node.attribute[0]?.i) : undefined;
    const copy = { ...node, input: node.input.map(wide) };
    if (to !== Onnx.FLOAT16 && (!reads || to !== undefined)) {
      nodes.push(copy);
      continue;
    }
    // A normalization's statistics are float32 always.
    const rounded = node.output.slice(0, node.opType === "LayerNormalization" ? 1 : undefined)
      .filter(Boolean);
    for (const name of rounded) half.add(name);
    const exact = (name: string) => rounded.includes(name) ? `${name}/exact` : name;
    nodes.push({
      ...copy,
      output: node.output.map(exact),
      ...(to !== undefined && { opType: "Identity", attribute: [] }),
    });
    for (const name of rounded) {
      nodes.push(cast([exact(name), name], Onnx.FLOAT16), cast([name, wide(name)], Onnx.FLOAT));
    }
  }
  return toBinary(ModelProtoSchema, { ...model, graph: { ...graph, node: nodes } });
}

function cast([from, to]: readonly [string, string], dtype: Onnx): NodeProto {
  return create(NodeProtoSchema, {
    opType: "Cast",
    name: `${to}/cast`,
    input: [from],
    output: [to],
    attribute: [
      create(AttributeProtoSchema, { name: "to", type: AttributeType.INT, i: BigInt(dtype) }),
    ],
  });
}
