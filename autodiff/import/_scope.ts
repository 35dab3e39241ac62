import type { AttributeProto, NodeProto } from "onnx-buf";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";

/** A list of tensors, which exists only while a model is imported: its length is always known. */
export interface Sequence {
  readonly items: readonly Value[];
}

/** What a name of a model file stands for; `undefined` for an optional input that is left out. */
export type Imported = Value | Sequence | undefined;

/** True for a list of tensors. */
export function isSequence(v: Imported): v is Sequence {
  return v !== undefined && "items" in v;
}

/** The names that nodes of one graph see: its own, and those of the graphs around it. */
export class Scope {
  readonly #values = new Map<string, Imported>();
  readonly #outer: Scope | undefined;
  /** Version of every domain's operators. */
  readonly versions: ReadonlyMap<string, number>;
  /** In a function: the attributes of its call, which nodes refer to. */
  readonly bindings: ReadonlyMap<string, AttributeProto> | undefined;
  /** Functions that this scope is inside of, outermost first. */
  readonly calls: readonly string[];

  constructor({ outer, versions, bindings, calls }: {
    readonly outer?: Scope;
    readonly versions: ReadonlyMap<string, number>;
    readonly bindings?: ReadonlyMap<string, AttributeProto> | undefined;
    readonly calls?: readonly string[];
  }) {
    this.#outer = outer;
    this.versions = versions;
    this.bindings = bindings;
    this.calls = calls ?? [];
  }

  /** The scope of a graph inside one of this scope's nodes. */
  inside(): Scope {
    const { versions, bindings, calls } = this;
    return new Scope({ outer: this, versions, bindings, calls });
  }

  define(name: string, value: Imported): void {
    if (this.#values.has(name)) throw new ImportError(`"${name}" is defined twice`);
    this.#values.set(name, value);
  }

  /** What a name stands for; `undefined` for the empty one. */
  find(name: string): Imported {
    if (name === "") return undefined;
    if (this.#values.has(name)) return this.#values.get(name);
    if (this.#outer !== undefined) return this.#outer.find(name);
    throw new ImportError(`"${name}" is not defined before it is used`);
  }

  /** The tensor that a name stands for. */
  tensor(name: string): Value | undefined {
    const found = this.find(name);
    if (isSequence(found)) throw new ImportError(`"${name}" is a sequence, expected a tensor`);
    return found;
  }

  /** The version of a node's operator. */
  versionOf({ domain }: NodeProto): number {
    const version = this.versions.get(domain === "ai.onnx" ? "" : domain);
    if (version !== undefined) return version;
    // ONNX Runtime saves what it has fused without saying which version of its own operators that takes: there is one.
    if (domain === "com.microsoft") return 1;
    throw new ImportError(`Domain "${domain}" has no version`);
  }

  /** A node's attributes; those that refer to an attribute of the function's call are that. */
  attributesOf(node: NodeProto): readonly AttributeProto[] {
    const { bindings } = this;
    if (bindings === undefined) return node.attribute;
    return node.attribute.flatMap((a) => {
      if (a.refAttrName === "") return [a];
      const bound = bindings.get(a.refAttrName);
      return bound === undefined ? [] : [{ ...bound, name: a.name }];
    });
  }
}
