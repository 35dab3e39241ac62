import type { Graph, Value } from "../autodiff/mod.ts";
import { inHalfPrecision } from "./half_precision.ts";
import { lower, type Lowered } from "./lower.ts";
import type { Policy } from "./policy.ts";

/** What the runtime gets of a graph: in operators that it has, in the precision that the policy names. */
export function runnable(graph: Graph, outputs: readonly Value[], policy: Policy): Lowered {
  const lowered = lower(graph, outputs, policy);
  return policy.precision === "float16" ? inHalfPrecision(lowered) : lowered;
}
