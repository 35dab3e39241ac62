import type { Builder } from "./builder.ts";
import type { Value } from "./graph.ts";

/** The gradient of y = x s(αx) by x, s the sigmoid: dy (s + α y (1 - s)). All of x's shape. */
export function quickGeluGradient(
  b: Builder,
  { dy, x, y, alpha }: {
    readonly dy: Value;
    readonly x: Value;
    readonly y: Value;
    readonly alpha: number;
  },
): Value {
  const s = b.sigmoid(alpha === 1 ? x : b.mul(x, alpha));
  const rest = b.mul(alpha === 1 ? y : b.mul(y, alpha), b.sub(1, s));
  return b.mul(dy, b.add(s, rest));
}
