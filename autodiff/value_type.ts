import type { DType, Shape, Tensor } from "./tensor.ts";

/** Element type and dimensions of a value. Every dimension is known when a graph is built. */
export interface ValueType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** What inference sees of an input: its type, and its entries where they are constant. */
export interface Operand extends ValueType {
  readonly name: string;
  readonly source:
    | { readonly kind: "constant"; readonly tensor: Tensor }
    | { readonly kind: "input" | "weight" | "node" };
}

/** What inference sees of a graph inside a node. */
export interface InnerGraph {
  readonly graph: { readonly inputs: readonly ValueType[] };
  readonly outputs: readonly ValueType[];
}
