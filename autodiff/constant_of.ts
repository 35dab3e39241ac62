import type { Tensor } from "./tensor.ts";
import type { Operand } from "./value_type.ts";

/** The tensor of a constant, or `undefined` for every other value. */
export function constantOf(value: Operand | undefined): Tensor | undefined {
  return value?.source.kind === "constant" ? value.source.tensor : undefined;
}
