import { create, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProto_AttributeType as AttributeType,
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "onnx-buf";
import type { OpName } from "../autodiff/infer/mod.ts";
import {
  type Attribute,
  type Body,
  byteLengthOf,
  CONTRIB,
  type Graph,
  GraphError,
  type Node,
  nodesNeeded,
  onnxOfDType,
  readsOf,
  type Tensor,
  type Value,
  type ValueType,
} from "../autodiff/mod.ts";
import { hiddenLeaves } from "./_hidden_sizes.ts";
import type { Lowered } from "./lower.ts";
import { PLAIN_POLICY, type Policy } from "./policy.ts";
import { runnable } from "./runnable.ts";

const MICROSOFT = "com.microsoft";

/** Operators whose outputs after the first may be left out of a model. */
const OPTIONAL_OUTPUTS: ReadonlySet<OpName> = new Set<OpName>([
  "Attention",
  "Dropout",
  "LayerNormalization",
  "MaxPool",
]);

/** How a graph is serialized. */
export interface SerializeOptions {
  /**
   * Weights, by their names, that the runtime is to leave where they are: it may compute nothing from them on load, nor
   * keep copies in other layouts. They are written as inputs that have a default.
   */
  readonly inPlace?: ReadonlySet<string>;
  /**
   * Write what the runtime would tell most shapes from, and weights that are cast, as inputs that have a default. Where it
   * knows two values to be of equal shape, it gives the later one the buffer of the earlier one and holds that in
   * between: in a network whose last levels have the shapes of its first, up to three times the memory of what is alive.
   * Nothing is computed on load from what is hidden. Results are the same, bit by bit. Default false.
   */
  readonly hideSizes?: boolean;
  /** How it is written out where there is a choice. Default: `PLAIN_POLICY`. */
  readonly policy?: Policy;
}

/**
 * Serializes the part of a graph that `outputs` need as an ONNX model (opset 20, IR 9), with `outputs` named by
 * their keys. All declared inputs stay inputs. Weights become external data that points into their files.
 */
export function serialize(
  graph: Graph,
  outputs: Readonly<Record<string, Value>>,
  { policy = PLAIN_POLICY, ...options }: SerializeOptions = {},
): Uint8Array {
  return serializeLowered(runnable(graph, Object.values(outputs), policy), {
    ...options,
    names: Object.keys(outputs),
  });
}

/** `serialize` of what has been lowered, whose outputs are to have these names. Appends copies of them where that is needed. */
export function serializeLowered(
  low: Lowered,
  { names, inPlace = new Set(), hideSizes = false }:
    & Omit<SerializeOptions, "policy">
    & { readonly names: readonly string[] },
): Uint8Array {
  if (names.length === 0) throw new GraphError("A model needs at least one output");
  const target = low.graph;
  const rename = new Map(target.inputs.map((v) => [v, v.name]));
  const taken = new Set(rename.values());
  const results: Value[] = [];
  for (const [i, value] of low.outputs.entries()) {
    const name = names[i] ?? "";
    if (taken.has(name)) throw new GraphError(`Output name "${name}" is taken by an input`);
    // A model's output is the result of a node of its own: an input, a weight or a twice-named value needs a copy.
    const own = value.source.kind === "node" && !rename.has(value) ? value : target.identity(value);
    rename.set(own, name);
    taken.add(name);
    results.push(own);
  }
  const nameOf = (v: Value): string => {
    const known = rename.get(v);
    if (known !== undefined) return known;
    let name = v.name;
    while (taken.has(name)) name += "~";
    taken.add(name);
    rename.set(v, name);
    return name;
  };
  const model = create(ModelProtoSchema, {
    irVersion: 9n,
    producerName: "drtune",
    opsetImport: [{ domain: "", version: 20n }, { domain: MICROSOFT, version: 1n }],
    graph: graphProto({ graph: target, outputs: results }, { nameOf, inPlace, hideSizes }),
  });
  return toBinary(ModelProtoSchema, model);
}

/** A graph whose outputs are results of nodes of its own. */
function graphProto(
  { graph, outputs }: Body,
  { nameOf, inPlace, hideSizes = false }: SerializeOptions & {
    readonly nameOf: (v: Value) => string;
  },
): GraphProto {
  const nodes = inRunningOrder([...nodesNeeded(graph, outputs)]);
  const read = new Set([...nodes.flatMap(readsOf), ...outputs]);
  const leaves = [...read].filter((v) => v !== undefined).filter((v) =>
    graph.owns(v) && (v.source.kind === "constant" || v.source.kind === "weight")
  );
  const hidden = hideSizes ? hiddenLeaves(nodes) : new Set();
  // The number of dimensions is hidden, too: from it alone the runtime would compare each value with every free buffer.
  const described = (v: Value) => valueInfo(nameOf(v), v, { isOpen: hidden.has(v) });
  const defaults = leaves.filter((v) => hidden.has(v) || inPlace?.has(v.name));
  return create(GraphProtoSchema, {
    name: "drtune",
    node: nodes.map((node) => nodeProto(node, { nameOf, read })),
    initializer: leaves.map((v) => initializer(v, nameOf(v))),
    input: [...graph.inputs, ...defaults].map(described),
    output: outputs.map(described),
  });
}

/**
 * Nodes in an order of which the runtime makes about the order of construction. It takes the results that nobody reads
 * from the last one in the file backwards, each after all it needs, and of a node's inputs the one latest in the file
 * first. So what depends on little comes early, or it would be computed long before it is needed: a cast weight before
 * the whole network, a derivative before the gradient that reaches it. And results come last, the first made after the
 * others, or what gradients of late layers read would wait in memory for those of all others.
 */
function inRunningOrder(nodes: readonly Node[]): readonly Node[] {
  const read = new Set(nodes.flatMap(readsOf));
  const levels = new Map<Node, number>();
  for (const node of nodes) {
    let below = 0;
    for (const v of readsOf(node)) {
      if (v?.source.kind === "node") below = Math.max(below, levels.get(v.source.node) ?? 0);
    }
    levels.set(node, 1 + below);
  }
  const level = (node: Node) => levels.get(node) ?? 0;
  const isLast = ({ outputs }: Node) => !outputs.some((v) => read.has(v));
  return [
    ...nodes.filter((node) => !isLast(node)).toSorted((a, b) => level(a) - level(b)),
    ...nodes.filter(isLast).toReversed(),
  ];
}

/** A graph inside a node; what it does not compute itself, or gives twice, is copied first. */
function bodyProto({ graph, outputs }: Body, nameOf: (v: Value) => string): GraphProto {
  const results = new Set<Value>();
  for (const v of outputs) {
    const isOwn = v.source.kind === "node" && graph.owns(v) && !results.has(v);
    const [result = v] = isOwn ? [v] : graph.op("Identity", [v]);
    results.add(result);
  }
  return graphProto({ graph, outputs: [...results] }, { nameOf });
}

function nodeProto(
  node: Node,
  { nameOf, read }: {
    readonly nameOf: (v: Value) => string;
    /** Values that some node or the caller reads. */
    readonly read: ReadonlySet<Value | undefined>;
  },
): NodeProto {
  const contrib = CONTRIB[node.op];
  const optional = OPTIONAL_OUTPUTS.has(node.op);
  const outputs = node.outputs.map((v, i) => optional && i > 0 && !read.has(v) ? "" : nameOf(v));
  while (outputs.at(-1) === "") outputs.pop();
  return create(NodeProtoSchema, {
    opType: contrib ?? node.op,
    domain: contrib === undefined ? "" : MICROSOFT,
    name: node.name,
    input: node.inputs.map((v) => v === undefined ? "" : nameOf(v)),
    output: outputs,
    attribute: [
      ...Object.entries(node.attributes).map(([name, a]) => attributeProto(name, a)),
      ...Object.entries(node.bodies).map(([name, body]) =>
        create(AttributeProtoSchema, {
          name,
          type: AttributeType.GRAPH,
          g: bodyProto(body, nameOf),
        })
      ),
    ],
  });
}

function attributeProto(name: string, a: Attribute): AttributeProto {
  switch (a.type) {
    case "int":
      return create(AttributeProtoSchema, { name, type: AttributeType.INT, i: BigInt(a.value) });
    case "float":
      return create(AttributeProtoSchema, { name, type: AttributeType.FLOAT, f: a.value });
    case "string":
      return create(AttributeProtoSchema, {
        name,
        type: AttributeType.STRING,
        s: new TextEncoder().encode(a.value),
      });
    case "ints":
      return create(AttributeProtoSchema, {
        name,
        type: AttributeType.INTS,
        ints: a.value.map(BigInt),
      });
  }
}

function tensorProto(name: string, t: Tensor): TensorProto {
  const { buffer, byteOffset, byteLength } = t.data;
  const bytes = new Uint8Array(byteLength);
  bytes.set(new Uint8Array(buffer, byteOffset, byteLength));
  return create(TensorProtoSchema, {
    name,
    dataType: onnxOfDType(t.dtype),
    dims: t.shape.map(BigInt),
    rawData: bytes,
  });
}

function initializer(v: Value, name: string): TensorProto {
  const s = v.source;
  if (s.kind === "constant") return tensorProto(name, s.tensor);
  if (s.kind !== "weight") throw new GraphError(`"${v.name}" is no initializer`);
  return create(TensorProtoSchema, {
    name,
    dataType: onnxOfDType(v.dtype),
    dims: v.shape.map(BigInt),
    dataLocation: TensorProto_DataLocation.EXTERNAL,
    externalData: [
      { key: "location", value: s.location.file },
      { key: "offset", value: String(s.location.offset) },
      { key: "length", value: String(byteLengthOf(v)) },
    ],
  });
}

function valueInfo(
  name: string,
  type: ValueType,
  { isOpen }: { readonly isOpen: boolean },
): ValueInfoProto {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: "tensorType",
        value: {
          elemType: onnxOfDType(type.dtype),
          shape: {
            dim: type.shape.map((size, i) =>
              create(TensorShapeProto_DimensionSchema, {
                ...(!(isOpen && i === 0) && { value: { case: "dimValue", value: BigInt(size) } }),
              })
            ),
          },
        },
      },
    },
  });
}
