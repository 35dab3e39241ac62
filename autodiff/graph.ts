import type { Attributes } from "./attributes.ts";
import { GraphError } from "./errors.ts";
import { type OpName, SPECS } from "./infer/mod.ts";
import { BYTES_PER_ELEMENT, type Shape, sizeOf, type Tensor } from "./tensor.ts";
import type { ValueType } from "./value_type.ts";

export type { ValueType };

/** Where a weight's bytes lie: row-major, little-endian, inside a file that is never converted. */
export interface WeightLocation {
  /** Path relative to the weights root given to the runtime; forward slashes, never leaving the root. */
  readonly file: string;
  /** Byte offset of the first element in the file. Need not be aligned. */
  readonly offset: number;
}

/** Where a value comes from. */
export type Source =
  | { readonly kind: "input" }
  | { readonly kind: "constant"; readonly tensor: Tensor }
  | { readonly kind: "weight"; readonly location: WeightLocation }
  | { readonly kind: "node"; readonly node: Node; readonly index: number };

/** A tensor in a graph: something that can be an operator's input. Made by `Graph` only. */
export interface Value extends ValueType {
  /** Unique in its graph; the name in the serialized model. */
  readonly name: string;
  readonly source: Source;
}

/**
 * A graph inside a node, which may also read values of the graphs around it. Its inputs are declared in the order in
 * which the operator feeds them.
 */
export interface Body {
  readonly graph: Graph;
  readonly outputs: readonly Value[];
}

/** One operator call. */
export interface Node {
  readonly op: OpName;
  /** Scope path and operator, unique in the graph: what error messages show. */
  readonly name: string;
  readonly inputs: readonly (Value | undefined)[];
  /** Every output the operator can have; those that nobody reads are left out of a serialized model. */
  readonly outputs: readonly Value[];
  readonly attributes: Attributes;
  /** Graphs inside, by the name of their ONNX attribute: If and Scan have some. */
  readonly bodies: Readonly<Record<string, Body>>;
}

/**
 * A graph under construction. Nodes are appended only, each after its inputs, so that construction order is a
 * topological order; types are inferred and checked as nodes are made.
 */
export class Graph {
  readonly #nodes: Node[] = [];
  readonly #inputs: Value[] = [];
  /** Shared by a graph and those inside its nodes: names are unique across all of them. */
  readonly #names: Map<string, number>;
  readonly #values = new WeakSet<Value>();
  readonly #outer: Graph | undefined;
  /** Small constants and weights by what they hold. */
  readonly #leaves = new Map<string, Value>();
  #scope: string;

  /** `outer` is the graph around it, for a graph inside a node. */
  constructor(outer?: Graph) {
    this.#outer = outer;
    this.#names = outer === undefined ? new Map() : outer.#names;
    this.#scope = outer === undefined ? "" : outer.#scope;
  }

  /** All nodes, inputs before users. */
  get nodes(): readonly Node[] {
    return this.#nodes;
  }

  /** Declared inputs in order of declaration. */
  get inputs(): readonly Value[] {
    return this.#inputs;
  }

  /** Runs `body` with `name` appended to the path that names nodes: "down_blocks.0/attn1/MatMul". */
  scope<T>(name: string, body: () => T): T {
    const outer = this.#scope;
    this.#scope = [outer, name].filter((part) => part !== "").join("/");
    try {
      return body();
    } finally {
      this.#scope = outer;
    }
  }

  /** Declares a graph input under exactly this name. Throws where the name is taken. */
  input(name: string, type: ValueType): Value {
    if (this.#names.has(name)) throw new GraphError(`Input name "${name}" is already taken`);
    checkDimensions(name, type.shape);
    this.#names.set(name, 1);
    return this.#input(name, type);
  }

  #input(name: string, type: ValueType): Value {
    const value = this.#value(name, type, { kind: "input" });
    this.#inputs.push(value);
    return value;
  }

  /** Declares an input of a graph inside a node, under a name like this one. */
  bodyInput(name: string, type: ValueType): Value {
    return this.#input(this.#unique(name, true), type);
  }

  /** True for values of this graph, not of those around it. */
  owns(v: Value): boolean {
    return this.#values.has(v);
  }

  /** A tensor stored in the graph itself. Equal small constants are stored once. */
  constant(tensor: Tensor, name = "const"): Value {
    if (tensor.data.length !== sizeOf(tensor.shape)) {
      throw new GraphError(
        `Constant "${name}" has ${tensor.data.length} elements, shape [${tensor.shape}] needs ${
          sizeOf(tensor.shape)
        }`,
      );
    }
    const make = () => this.#value(this.#unique(name, false), tensor, { kind: "constant", tensor });
    return tensor.data.length > 16
      ? make()
      : this.#leaf(`${tensor.dtype}[${tensor.shape}]${Array.from(tensor.data, digits)}`, make);
  }

  /** A frozen weight that stays in its file, loaded by the runtime as external data. One value per location. */
  weight(name: string, type: ValueType, location: WeightLocation): Value {
    checkDimensions(name, type.shape);
    const { file, offset } = location;
    if (!Number.isSafeInteger(offset) || offset < 0) {
      throw new GraphError(`Weight "${name}" has offset ${offset}, expected 0 or more`);
    }
    return this.#leaf(
      `${type.dtype}[${type.shape}]@${offset}:${file}`,
      () => this.#value(this.#unique(name, false), type, { kind: "weight", location }),
    );
  }

  /**
   * Appends an operator and returns all its outputs. Throws `GraphError` naming the node when the inputs' types do
   * not fit or the operator has no such attribute.
   */
  op(
    op: OpName,
    inputs: readonly (Value | undefined)[],
    attributes: Attributes = {},
  ): readonly Value[] {
    return this.control(op, inputs, { attributes });
  }

  /** `op` for an operator with graphs inside. */
  control(
    op: OpName,
    inputs: readonly (Value | undefined)[],
    { attributes = {}, bodies = {} }: {
      readonly attributes?: Attributes;
      readonly bodies?: Readonly<Record<string, Body>>;
    },
  ): readonly Value[] {
    const name = this.#unique(op, true);
    for (const [i, v] of inputs.entries()) {
      if (v !== undefined && !this.#sees(v)) {
        throw new GraphError(`Input ${i} of ${name} ("${v.name}") belongs to another graph`);
      }
    }
    try {
      checkAttributes(op, attributes);
      const types = SPECS[op].infer({ inputs, attributes, bodies });
      return this.#append({ op, name, inputs, attributes, bodies }, types);
    } catch (cause) {
      const found = inputs.map((v) => v === undefined ? "-" : `${v.dtype}[${v.shape}]`).join(", ");
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new GraphError(`${name}(${found}): ${reason}`, { cause });
    }
  }

  /** Appends a copy of another graph's node under the same name, with this graph's values and graphs for its own. */
  adopt(node: Node, { inputs, bodies }: Pick<Node, "inputs" | "bodies">): readonly Value[] {
    this.#names.set(node.name, 1);
    const copied = { ...node, inputs, bodies };
    return this.#append(copied, SPECS[node.op].infer(copied));
  }

  #sees(v: Value): boolean {
    return this.#values.has(v) || (this.#outer !== undefined && this.#outer.#sees(v));
  }

  #append(node: Omit<Node, "outputs">, types: readonly ValueType[]): readonly Value[] {
    const outputs: Value[] = [];
    const made: Node = { ...node, outputs };
    for (const [index, type] of types.entries()) {
      const label = index === 0 ? node.name : this.#unique(`${node.name}:${index}`, false);
      outputs.push(this.#value(label, type, { kind: "node", node: made, index }));
    }
    this.#nodes.push(made);
    return outputs;
  }

  #leaf(key: string, make: () => Value): Value {
    const known = this.#leaves.get(key);
    if (known !== undefined) return known;
    const made = make();
    this.#leaves.set(key, made);
    return made;
  }

  #value(name: string, type: ValueType, source: Source): Value {
    const value: Value = { name, dtype: type.dtype, shape: [...type.shape], source };
    this.#values.add(value);
    return value;
  }

  #unique(base: string, scoped: boolean): string {
    const path = scoped && this.#scope !== "" ? `${this.#scope}/${base}` : base;
    let count = this.#names.get(path) ?? 0;
    // "x_1" may itself have been used as a name: the search goes on from there, now and the next time.
    let name = count === 0 ? path : `${path}_${count}`;
    while (count > 0 && this.#names.has(name)) name = `${path}_${++count}`;
    this.#names.set(path, count + 1);
    if (name !== path) this.#names.set(name, 1);
    return name;
  }
}

/** Bytes a value of this type occupies. */
export function byteLengthOf(type: ValueType): number {
  return sizeOf(type.shape) * BYTES_PER_ELEMENT[type.dtype];
}

function checkAttributes(op: OpName, attributes: Attributes): void {
  const known = SPECS[op].attributes;
  for (const [name, { type }] of Object.entries(attributes)) {
    const expected = known.get(name);
    if (expected === undefined) {
      throw new GraphError(
        `Attribute "${name}" is unknown, expected some of ${
          [...known.keys()].join(", ") || "none"
        }`,
      );
    }
    if (type !== expected) {
      throw new GraphError(`Attribute "${name}" is of type ${type}, expected ${expected}`);
    }
  }
}

function checkDimensions(name: string, shape: Shape): void {
  for (const d of shape) {
    if (!Number.isSafeInteger(d) || d < 0) {
      throw new GraphError(`"${name}" has shape [${shape}]; dimensions must be whole and known`);
    }
  }
}

// -0 and 0 are different constants; String(-0) is "0".
function digits(v: number | bigint): string {
  return Object.is(v, -0) ? "-0" : String(v);
}
