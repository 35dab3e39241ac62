import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { dim } from "../infer/_types.ts";
import { sizeOf } from "../tensor.ts";

/** An entry along an axis, as a whole number in x's dtype, and its weight; both [B, M] or broadcastable to that. */
export interface Tap {
  readonly index: Value;
  /** Default 1. */
  readonly weight?: Value;
}

/** What lies outside of x: nothing, or the entry at the edge. */
export type Outside = "zeros" | "edge";

/**
 * Weighted sums of entries of x [B, C, ...]: for M places in each picture the taps of every axis, all of them with all.
 * Returns [B, M, C]. Weights are differentiable; which entries are taken is not.
 */
export function sampleTaps(
  b: Builder,
  x: Value,
  taps: readonly (readonly Tap[])[],
  outside: Outside,
): Value {
  const [batch = 1, channels = 1, ...spatial] = x.shape;
  const perm = [0, ...spatial.map((_, i) => i + 2), 1];
  const rows = b.reshape(b.transpose(x, perm), [batch * sizeOf(spatial), channels]);
  const first = b.table(Float64Array.from({ length: batch }, (_, i) => i * sizeOf(spatial)), {
    dtype: "int64",
    shape: [batch, 1],
  });
  // Each axis's taps once, however often they are combined.
  const axes = taps.map((list, axis) =>
    list.map((tap) =>
      onAxis(b, tap, {
        size: dim(spatial, axis),
        stride: sizeOf(spatial.slice(axis + 1)),
        outside,
      })
    )
  );
  const combined = axes.reduce<readonly { at: Value; weight?: Value | undefined }[]>(
    (found, list) =>
      found.flatMap(({ at, weight }) =>
        list.map((tap) => ({ at: b.add(at, tap.at), weight: times(b, weight, tap.weight) }))
      ),
    [{ at: first }],
  );
  const parts = combined.map(({ at, weight }) => {
    const [, places = 1] = at.shape;
    const entries = b.gather(rows, b.reshape(at, [batch * places]));
    const values = b.reshape(entries, [batch, places, channels]);
    return weight === undefined ? values : b.mul(values, b.unsqueeze(weight, [2]));
  });
  return b.total(parts);
}

function times(b: Builder, x: Value | undefined, y: Value | undefined): Value | undefined {
  return x === undefined ? y : y === undefined ? x : b.mul(x, y);
}

function onAxis(
  b: Builder,
  { index, weight }: Tap,
  { size, stride, outside }: {
    readonly size: number;
    readonly stride: number;
    readonly outside: Outside;
  },
): { readonly at: Value; readonly weight: Value | undefined } {
  const inside = b.min(b.max(index, 0), size - 1);
  const at = b.mul(b.cast(inside, "int64"), stride);
  if (outside === "edge") return { at, weight };
  const one = weight ?? b.scalar(1, index.dtype);
  return { at, weight: b.where(b.equal(index, inside), one, b.scalar(0, index.dtype)) };
}

/** The two neighbours of coordinates, by their distances. */
export function linearTaps(b: Builder, coordinate: Value): readonly Tap[] {
  const low = b.call("Floor", [coordinate]);
  const t = b.sub(coordinate, low);
  return [{ index: low, weight: b.sub(1, t) }, { index: b.add(low, 1), weight: t }];
}

/** The four neighbours of coordinates by Keys' kernel with a = -3/4. */
export function cubicTaps(b: Builder, coordinate: Value): readonly Tap[] {
  const a = -0.75;
  const low = b.call("Floor", [coordinate]);
  const t = b.sub(coordinate, low);
  // Horner's scheme, the highest power first.
  const polynomial = (d: Value, [first = 0, ...rest]: readonly number[]) =>
    rest.reduce<Value>((sum, c) => b.add(b.mul(sum, d), c), b.scalar(first, d.dtype));
  const near = (d: Value) => polynomial(d, [a + 2, -(a + 3), 0, 1]);
  const far = (d: Value) => polynomial(d, [a, -5 * a, 8 * a, -4 * a]);
  return [
    { index: b.sub(low, 1), weight: far(b.add(t, 1)) },
    { index: low, weight: near(t) },
    { index: b.add(low, 1), weight: near(b.sub(1, t)) },
    { index: b.add(low, 2), weight: far(b.sub(2, t)) },
  ];
}
