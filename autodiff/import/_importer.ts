import type { GraphProto, NodeProto, SparseTensorProto, TensorProto } from "onnx-buf";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { type Shape, sizeOf } from "../tensor.ts";
import { control } from "./_control.ts";
import { convert } from "./_convert.ts";
import { fold, folded } from "./_fold.ts";
import { callFunction } from "./_functions.ts";
import type { NodeImporter } from "./_node_importer.ts";
import { nodesNeeded } from "./_nodes_needed.ts";
import { readAttributes } from "./_read_attributes.ts";
import { type ForeignModel, functionKey, MOST_NODES } from "./_read_model.ts";
import { readSparse, readTensor } from "./_read_tensor.ts";
import { type Imported, isSequence, type Scope } from "./_scope.ts";
import { SEQUENCES } from "./_sequences.ts";
import { SOURCES } from "./_sources.ts";

/** How a model's stored tensors become values. */
export interface StoredOptions {
  /** Folder of the model file relative to the weights root, forward slashes. */
  readonly folder?: string | undefined;
  /** Entries that the largest value may have. */
  readonly largestValue?: number | undefined;
}

/** Appends the nodes of one model file to a graph. */
export class Importer implements NodeImporter {
  readonly b: Builder;
  readonly #model: ForeignModel;
  readonly #options: StoredOptions;
  #count = 0;

  constructor(b: Builder, model: ForeignModel, options: StoredOptions) {
    this.b = b;
    this.#model = model;
    this.#options = options;
  }

  /** Appends what the named outputs of a graph need, its stored tensors included, and defines it in `scope`. */
  graph(
    graph: GraphProto,
    scope: Scope,
    outputs: readonly string[] = graph.output.map(({ name }) => name),
  ): void {
    const needed = nodesNeeded(graph.node, outputs);
    for (const tensor of graph.initializer) {
      if (needed.names.has(tensor.name)) scope.define(tensor.name, this.#stored(tensor));
    }
    for (const tensor of graph.sparseInitializer) {
      const name = tensor.values?.name ?? "";
      if (needed.names.has(name)) scope.define(name, this.#sparse(tensor));
    }
    this.nodes(needed.nodes, scope);
  }

  /** Appends nodes, inputs before users. */
  nodes(nodes: readonly NodeProto[], scope: Scope): void {
    for (const node of nodes) {
      if (++this.#count > MOST_NODES) {
        throw new ImportError(
          `Model runs more than ${MOST_NODES} nodes, those in loops each time: too many`,
        );
      }
      const outputs = named(node, () => this.b.scope(scopeOf(node), () => this.#node(node, scope)));
      for (const [i, name] of node.output.entries()) {
        const value = outputs[i];
        if (value === undefined || name === "") continue;
        if (!isSequence(value)) this.#checkSize(name, value.shape);
        scope.define(name, value);
      }
    }
  }

  /** Appends what a node computes, or computes it here where it is shape arithmetic. */
  #node(node: NodeProto, scope: Scope): readonly Imported[] {
    const { opType, domain } = node;
    const called = this.#model.functions.get(
      functionKey({ domain, name: opType, overload: node.overload }),
    );
    if (called !== undefined) return callFunction(this, { called, node, scope });
    const isStandard = domain === "" || domain === "ai.onnx";
    const version = scope.versionOf(node);
    if (isStandard) {
      const flow = control(this, { node, scope, version });
      if (flow !== undefined) return flow;
      const list = SEQUENCES[opType];
      const found = node.input.map((name) => scope.find(name));
      if (list !== undefined || opType === "Identity" && isSequence(found[0])) {
        const { attributes } = readAttributes(scope.attributesOf(node));
        return list === undefined ? found : [list(this.b, { inputs: found, attributes })];
      }
    }
    const inputs = node.input.map((name) => scope.tensor(name));
    const protos = scope.attributesOf(node);
    const source = SOURCES.get(opType);
    if (source !== undefined && isStandard) return [source(this.b, protos, inputs)];
    const made = convert(this.b, {
      op: isStandard ? opType : `${domain}.${opType}`,
      version,
      inputs,
      ...readAttributes(protos),
      outputs: node.output.map((name) => name !== ""),
    });
    if (!("op" in made)) {
      const values = "source" in made ? [made] : made;
      // Only what constants alone make can be computed here.
      const isFixed = inputs.every((v) => v === undefined || constantOf(v) !== undefined);
      return isFixed ? values.map((v) => v && folded(this.b, v)) : values;
    }
    return fold(made.op, made)?.map((tensor) => this.b.constant(tensor)) ??
      this.b.op(made.op, made.inputs, made.attributes);
  }

  #stored(proto: TensorProto): Value {
    const tensor = readTensor(proto);
    if (tensor.kind === "inline") return this.b.constant(tensor.tensor, proto.name);
    const { type, location } = tensor;
    this.#checkSize(proto.name, type.shape);
    const { folder = "" } = this.#options;
    const file = folder === "" ? location.file : `${folder}/${location.file}`;
    return this.b.weight(proto.name, type, { ...location, file });
  }

  #sparse(proto: SparseTensorProto): Value {
    return this.b.constant(readSparse(proto), proto.values?.name);
  }

  #checkSize(name: string, shape: Shape): void {
    const { largestValue = 2 ** 28 } = this.#options;
    if (sizeOf(shape) <= largestValue) return;
    throw new ImportError(`"${name}" has shape [${shape}]: more than ${largestValue} entries`);
  }
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
