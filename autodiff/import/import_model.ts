import type { NodeProto, TensorProto } from "onnx-buf";
import type { Attributes } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { type Shape, sizeOf } from "../tensor.ts";
import { convert } from "./_convert.ts";
import { fold } from "./_fold.ts";
import {
  declared,
  type DeclaredValue,
  fedInputs,
  type ForeignModel,
  readAttribute,
  readModel,
} from "./_read_model.ts";
import { readTensor } from "./_read_tensor.ts";
import { SOURCES } from "./_sources.ts";

/** What a model takes and returns. */
export interface ModelInterface {
  readonly inputs: readonly DeclaredValue[];
  readonly outputs: readonly DeclaredValue[];
}

/** Options of `importModel`. */
export interface ImportOptions {
  /** Values for all of the model's inputs, by name; their shapes freeze the dimensions the model leaves open. */
  readonly inputs: Readonly<Record<string, Value>>;
  /** Which outputs to append, and nothing that only others need. Default: all. */
  readonly outputs?: readonly string[];
  /** Folder of the model file relative to the weights root, forward slashes. Default: the root itself. */
  readonly folder?: string;
  /** Entries that the largest value may have. Default 2^28. */
  readonly largestValue?: number;
}

/** Reads what a model file takes and returns. Throws `ImportError`. */
export function describeModel(bytes: Uint8Array): ModelInterface {
  const model = readModel(bytes);
  return { inputs: fedInputs(model), outputs: model.graph.output.map(declared) };
}

/**
 * Appends a model file (ONNX opset 11 to 22) to a graph, and returns its outputs by name. What the model computes
 * from shapes is computed here, since a graph has none that vary. Tensors stored in the file become constants;
 * those stored beside it become weights that stay where they are, and must lie in the model's folder or below.
 *
 * Throws `ImportError` where the file is damaged, an input does not fit, or a node (named in the message) has an
 * operator, attribute or control flow that graphs do not have. What no output needs is not looked at.
 */
export function importModel(
  b: Builder,
  bytes: Uint8Array,
  options: ImportOptions,
): Readonly<Record<string, Value>> {
  const model = readModel(bytes);
  const { graph, versions } = model;
  const values = new Map<string, Value>();
  const define = (name: string, value: Value) => {
    if (values.has(name)) throw new ImportError(`"${name}" is defined twice`);
    values.set(name, value);
  };
  for (const input of givenInputs(model, options.inputs)) define(...input);
  const known = graph.output.map(({ name }) => name);
  const outputs = options.outputs ?? known;
  const unknown = outputs.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    const returned = known.map((name) => `"${name}"`).join(", ");
    throw new ImportError(`Output "${unknown}" is unknown; the model returns ${returned}`);
  }
  const needed = nodesNeeded(model, outputs);
  for (const tensor of graph.initializer) {
    if (needed.names.has(tensor.name)) define(tensor.name, stored(b, tensor, options));
  }
  const find = (name: string): Value | undefined => {
    if (name === "") return undefined;
    const value = values.get(name);
    if (value === undefined) throw new ImportError(`"${name}" is not defined before it is used`);
    return value;
  };
  for (const node of needed.nodes) {
    const outputs = named(node, () => {
      const version = versions.get(node.domain === "ai.onnx" ? "" : node.domain);
      if (version === undefined) throw new ImportError(`Domain "${node.domain}" has no version`);
      return b.scope(
        scopeOf(node),
        () => append(b, node, { version, inputs: node.input.map(find) }),
      );
    });
    for (const [i, name] of node.output.entries()) {
      const value = outputs[i];
      if (value === undefined || name === "") continue;
      checkSize(name, value.shape, options.largestValue);
      define(name, value);
    }
  }
  return Object.fromEntries(
    outputs.map((name) => {
      const value = find(name);
      if (value === undefined) throw new ImportError("An output has no name");
      return [name, value];
    }),
  );
}

/** Runs `body` so that its errors say which node they are about. */
function named<T>(node: NodeProto, body: () => T): T {
  try {
    return body();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const name = node.name === "" ? `that makes "${node.output[0]}"` : `"${node.name}"`;
    throw new ImportError(`Node ${name} (${node.opType}): ${reason}`, { cause });
  }
}

/** PyTorch's exporter calls nodes "/block/conv/Conv": the path without the operator, which the graph adds. */
function scopeOf({ name, opType }: NodeProto): string {
  const path = name.split("/").filter((part) => part !== "");
  return (path.at(-1)?.startsWith(opType) ? path.slice(0, -1) : path).join("/");
}

/** The caller's values for all inputs, checked against what the model declares. */
function givenInputs(
  model: ForeignModel,
  inputs: Readonly<Record<string, Value>>,
): readonly (readonly [string, Value])[] {
  const expected = fedInputs(model);
  const unknown = Object.keys(inputs).find((name) =>
    !expected.some((input) => input.name === name)
  );
  const takes = `the model takes ${expected.map(({ name }) => `"${name}"`).join(", ")}`;
  if (unknown !== undefined) throw new ImportError(`Input "${unknown}" is unknown; ${takes}`);
  const sizes = new Map<string, number>();
  return expected.map(({ name, dtype, shape }) => {
    const value = inputs[name];
    if (value === undefined) throw new ImportError(`Input "${name}" is missing; ${takes}`);
    // Dimensions of one name have one size, in all inputs.
    const known = shape?.map((d) => typeof d === "string" ? sizes.get(d) ?? d : d);
    const fits = known === undefined || known.length === value.shape.length &&
        known.every((d, i) => typeof d === "string" || d === value.shape[i]);
    if (value.dtype !== dtype || !fits) {
      throw new ImportError(
        `Input "${name}" is ${value.dtype}[${value.shape}], expected ${dtype}[${known}]`,
      );
    }
    for (const [i, d] of shape?.entries() ?? []) {
      if (typeof d === "string" && d !== "") sizes.set(d, value.shape[i] ?? 1);
    }
    return [name, value] as const;
  });
}

/** Nodes that outputs depend on, in order, and the names they read. */
function nodesNeeded({ graph }: ForeignModel, outputs: readonly string[]) {
  const names = new Set(outputs);
  const nodes: NodeProto[] = [];
  for (const node of graph.node.toReversed()) {
    if (!node.output.some((name) => name !== "" && names.has(name))) continue;
    nodes.push(node);
    for (const name of node.input) names.add(name);
  }
  return { names, nodes: nodes.reverse() };
}

function stored(b: Builder, proto: TensorProto, { folder, largestValue }: ImportOptions): Value {
  const tensor = readTensor(proto);
  if (tensor.kind === "inline") return b.constant(tensor.tensor, proto.name);
  const { type, location } = tensor;
  checkSize(proto.name, type.shape, largestValue);
  const file = folder === undefined || folder === "" ? location.file : `${folder}/${location.file}`;
  return b.weight(proto.name, type, { ...location, file });
}

function checkSize(name: string, shape: Shape, largest = 2 ** 28): void {
  if (sizeOf(shape) <= largest) return;
  throw new ImportError(`"${name}" has shape [${shape}]: more than ${largest} entries`);
}

/** Appends what a node computes, or computes it here where it is shape arithmetic. */
function append(
  b: Builder,
  node: NodeProto,
  { version, inputs }: {
    readonly version: number;
    readonly inputs: readonly (Value | undefined)[];
  },
): readonly Value[] {
  const source = SOURCES.get(node.opType);
  if (source !== undefined && isStandard(node)) return [source(b, node, inputs)];
  const made = convert(b, {
    op: isStandard(node) ? node.opType : `${node.domain}.${node.opType}`,
    version,
    inputs,
    attributes: attributesOf(node),
    outputs: node.output.length,
  });
  if (!("op" in made)) return [made];
  return fold(made.op, made)?.map((tensor) => b.constant(tensor)) ??
    b.op(made.op, made.inputs, made.attributes);
}

const isStandard = ({ domain }: NodeProto): boolean => domain === "" || domain === "ai.onnx";

function attributesOf(node: NodeProto): Attributes {
  return Object.fromEntries(node.attribute.map((a) => [a.name, readAttribute(a)]));
}
