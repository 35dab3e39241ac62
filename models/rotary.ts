import type { Builder, DType, Value } from "../autodiff/mod.ts";

/** How much each pair of features is turned at each token: both [1 or B, N, 1, D/2]. */
export interface Rotation {
  readonly cos: Value;
  readonly sin: Value;
}

/** Where tokens lie and how features are shared out among the axes of their positions. */
export interface RotaryOptions {
  /** Of each token, one coordinate an axis. */
  readonly positions: readonly (readonly number[])[];
  /** Features of each axis, even; their sum is the width of a head. */
  readonly widths: readonly number[];
  readonly theta: number;
}

/** Tables of a graph's tokens, which all of its blocks read. */
const tables = new WeakMap<Builder, Map<string, Rotation>>();

/**
 * Rotations by p θ^(-2j/d), j = 0..d/2-1, of each axis of d features (Su et al., arXiv 2104.09864), angles in float64.
 * A graph holds one of each `key`.
 */
export function rotation(
  b: Builder,
  key: string,
  { dtype, make }: { readonly dtype: DType; readonly make: () => RotaryOptions },
): Rotation {
  const known = tables.get(b) ?? new Map<string, Rotation>();
  tables.set(b, known);
  const found = known.get(key);
  if (found !== undefined) return found;
  const { positions, widths, theta } = make();
  const half = widths.reduce((sum, d) => sum + d, 0) / 2;
  const angles = new Float64Array(positions.length * half);
  for (const [n, position] of positions.entries()) {
    let at = n * half;
    for (const [axis, d] of widths.entries()) {
      for (let j = 0; j < d / 2; j++) {
        angles[at++] = (position[axis] ?? 0) * theta ** (-2 * j / d);
      }
    }
  }
  const shape = [1, positions.length, 1, half];
  const made = {
    cos: b.table(angles.map(Math.cos), { dtype, shape }),
    sin: b.table(angles.map(Math.sin), { dtype, shape }),
  };
  known.set(key, made);
  return made;
}

/**
 * x [B, N, H, D] with its pairs of features turned. Pairs are neighbours, or lie half a head apart. The first of each pair
 * come first in the result, whatever the order in x: queries and keys have it alike, and their products are the same.
 */
export function rotate(
  b: Builder,
  x: Value,
  { cos, sin, pairs }: Rotation & { readonly pairs: "neighbours" | "halves" },
): Value {
  const [batch = 1, tokens = 1, heads = 1, width = 1] = x.shape;
  const half = width / 2;
  const flat = [batch, tokens, heads, half];
  const parts = pairs === "halves"
    ? b.split(x, [half, half], 3)
    : b.split(b.reshape(x, [...flat, 2]), [1, 1], 4).map((part) => b.reshape(part, flat));
  const [first, second] = parts;
  if (first === undefined || second === undefined) throw new RangeError("A pair is two");
  return b.concat([
    b.sub(b.mul(first, cos), b.mul(second, sin)),
    b.add(b.mul(second, cos), b.mul(first, sin)),
  ], 3);
}
