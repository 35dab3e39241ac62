import type { Attributes } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import type { OpName } from "../infer/mod.ts";

/** A node of a model file, its inputs already values of the graph. */
export interface ForeignNode {
  /** Operator name; with its domain in front where that is not ONNX's. */
  readonly op: string;
  /** Version of its domain's operators. */
  readonly version: number;
  readonly inputs: readonly (Value | undefined)[];
  readonly attributes: Attributes;
  /** Attributes that are lists of floats or of strings, which no operator of a graph has. */
  readonly lists: {
    readonly floats: Readonly<Record<string, readonly number[]>>;
    readonly strings: Readonly<Record<string, readonly string[]>>;
  };
  /** Which outputs the node names. */
  readonly outputs: readonly boolean[];
}

/** The same operator as the newest opset writes it, ready for the graph. */
export interface Call {
  readonly op: OpName;
  readonly inputs: readonly (Value | undefined)[];
  readonly attributes: Attributes;
}

/** What a node becomes: one call, or the values of its outputs where it takes other operators. */
export type Converted = Call | Value | readonly (Value | undefined)[];

/** Rewrites a node. Throws an error that says which form of the operator is not supported. */
export type Conversion = (b: Builder, node: ForeignNode) => Converted;

/** Rewrites of operators, by name. */
export type Conversions = Readonly<Record<string, Conversion>>;

/** Input `i`, which the operator requires. */
export function given(node: ForeignNode, i: number): Value {
  const v = node.inputs[i];
  if (v === undefined) throw new RangeError(`Input ${i} is missing`);
  return v;
}

/** True where the node names output `i`. */
export function names(node: ForeignNode, i: number): boolean {
  return node.outputs[i] === true;
}
