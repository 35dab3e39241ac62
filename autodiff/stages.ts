import { GraphError } from "./errors.ts";
import type { Graph } from "./graph.ts";
import type { OpName } from "./infer/mod.ts";

/** Operators that only `gradient` writes. They have no rule of their own: what has them is not differentiated again. */
export const GRADIENT_OPS = [
  "AttentionGrad",
  "GroupNormalizationGrad",
] as const satisfies readonly OpName[];

/** An operator that only `gradient` writes. */
export type GradientOp = typeof GRADIENT_OPS[number];

/**
 * What a graph is on its way to a runtime: "written" by builders and importers, "differentiated" when `gradient` has been
 * through it, "runnable" when the compiler has.
 */
export type Stage = "written" | "differentiated" | "runnable";

/** Operators that no runtime has: the compiler writes them out in others. */
const COMPILED_AWAY: ReadonlySet<OpName> = new Set<OpName>([
  ...GRADIENT_OPS,
  "GroupNormalization",
  "StopGradient",
  "StraightThrough",
]);

const MADE_BY_GRADIENT: ReadonlySet<OpName> = new Set<OpName>(GRADIENT_OPS);

/** Whether a graph at `stage` may hold `op`. */
export function belongsTo(stage: Stage, op: OpName): boolean {
  switch (stage) {
    case "written":
      return !MADE_BY_GRADIENT.has(op);
    case "differentiated":
      return true;
    case "runnable":
      return !COMPILED_AWAY.has(op);
  }
}

/** Throws `GraphError` on the first node of a graph, or of one inside a node, that does not belong to its stage. */
export function checkStage(graph: Graph, stage: Stage): void {
  for (const { op, name, bodies } of graph.nodes) {
    if (!belongsTo(stage, op)) {
      throw new GraphError(`${name}: no ${stage} graph has operator ${op}`);
    }
    for (const body of Object.values(bodies)) checkStage(body.graph, stage);
  }
}
