import type { Value } from "./graph.ts";
import type { Tensor } from "./tensor.ts";

/** The tensor of a constant, or `undefined` for every other value. */
export function constantOf(value: Value | undefined): Tensor | undefined {
  return value?.source.kind === "constant" ? value.source.tensor : undefined;
}
