import type { OpName } from "../autodiff/infer/mod.ts";
import { type Node, readsOf, type Value } from "../autodiff/mod.ts";

/** The input from which the runtime tells a result's shape: the constant of a shape, or a weight that is cast. */
const TELLS: Partial<Record<OpName, number>> = { Cast: 0, Expand: 1, Reshape: 1 };

/** Weights and constants without which the runtime cannot tell most shapes: see `SerializeOptions.hideSizes`. */
export function hiddenLeaves(nodes: readonly Node[]): ReadonlySet<Value> {
  return new Set(
    nodes.flatMap(({ op, inputs }) => {
      const v = inputs[TELLS[op] ?? Infinity];
      return v?.source.kind === "weight" || v?.source.kind === "constant" ? [v] : [];
    }),
  );
}

/** Results of `nodes` whose shapes the runtime does not know without `hiddenLeaves`. */
export function hiddenResults(nodes: readonly Node[]): ReadonlySet<Value> {
  const hidden = new Set(hiddenLeaves(nodes));
  for (const node of nodes) {
    if (readsOf(node).some((v) => v !== undefined && hidden.has(v))) {
      node.outputs.forEach((v) => hidden.add(v));
    }
  }
  return hidden;
}
