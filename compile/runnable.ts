import type { Graph, Value } from "../autodiff/mod.ts";
import { inHalfPrecision } from "./half_precision.ts";
import { lower, type Lowered } from "./lower.ts";

/** What the runtime gets of a graph: in operators that it has, in the precision that its builder names. */
export function runnable(graph: Graph, outputs: readonly Value[]): Lowered {
  const lowered = lower(graph, outputs);
  return lowered.graph.precision === "float16" ? inHalfPrecision(lowered) : lowered;
}
