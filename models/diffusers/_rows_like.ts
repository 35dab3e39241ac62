import type { Builder, Value } from "../../autodiff/mod.ts";

/** x with its rows repeated as a whole until there are as many as `other` has; x itself where that has no more. */
export function rowsLike(b: Builder, x: Value, other: Value): Value {
  const times = (other.shape[0] ?? 1) / (x.shape[0] ?? 1);
  return times <= 1 ? x : b.concat(Array.from({ length: times }, () => x), 0);
}
