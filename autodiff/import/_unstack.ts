import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { dim } from "../infer/_types.ts";

/** The entries of x along an axis, without it. */
export function unstack(b: Builder, x: Value, axis: number): readonly Value[] {
  const length = dim(x.shape, axis);
  if (length === 0) return [];
  return b.split(x, Array.from({ length }, () => 1), axis).map((row) => b.squeeze(row, [axis]));
}
