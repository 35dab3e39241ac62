import type { GraphProto, NodeProto } from "onnx-buf";
import type { Builder } from "../builder.ts";
import type { Scope } from "./_scope.ts";

/** What writes out the graphs and functions that nodes bring with them. */
export interface NodeImporter {
  readonly b: Builder;
  /** Appends what the named outputs of a graph need, all of them by default, and defines it in `scope`. */
  graph(graph: GraphProto, scope: Scope, outputs?: readonly string[]): void;
  /** Appends nodes, inputs before users. */
  nodes(nodes: readonly NodeProto[], scope: Scope): void;
}
