import {
  type Attributes,
  type Builder,
  float,
  int,
  int64,
  ints,
  type Shape,
  string,
  type Tensor,
  type Value,
} from "../../../autodiff/mod.ts";
import { type OpCase, opCase, type Spec } from "./_case.ts";

/** One input of [2, 3, 4], or as given. */
const move = (
  build: (b: Builder, x: Value) => Value | readonly Value[],
  shape: Shape = [2, 3, 4],
) => opCase({ x: shape }, (b, { x }) => build(b, x));

interface Slice {
  readonly starts: readonly number[];
  readonly ends: readonly number[];
  readonly axes?: readonly number[];
  readonly steps?: readonly number[];
}

const slice = ({ starts, ends, axes, steps }: Slice, shape: Shape = [4, 5, 6]) =>
  move((b, x) =>
    b.call("Slice", [
      x,
      b.ints(starts),
      b.ints(ends),
      axes && b.ints(axes),
      steps && b.ints(steps),
    ]), shape);

const pad = (mode: string, pads: readonly number[], axes?: readonly number[]) =>
  move((b, x) =>
    b.call("Pad", [x, b.ints(pads), undefined, axes && b.ints(axes)], { mode: string(mode) })
  );

const index = (shape: Shape, entries: readonly number[]): Tensor => int64(entries, shape);

/** Indices fed at run time. */
const gather = (x: Shape, at: Tensor, attributes: Attributes = {}) =>
  opCase({ x, at }, (b, { x, at }) => b.call("Gather", [x, at], attributes));

const gatherElements = (x: Shape, at: Tensor, axis: number) =>
  opCase({ x, at }, (b, { x, at }) => b.call("GatherElements", [x, at], { axis: int(axis) }));

const gatherNd = (x: Shape, at: Tensor, batch = 0) =>
  opCase({ x, at }, (b, { x, at }) => b.call("GatherND", [x, at], { batch_dims: int(batch) }));

const scatter = (
  op: "ScatterElements" | "ScatterND",
  { x, at, updates, attributes = {} }: {
    x: Spec;
    at: Tensor;
    updates: Spec;
    attributes?: Attributes;
  },
) =>
  opCase(
    { x, at, updates },
    (b, { x, at, updates }) => b.call(op, [x, at, updates], attributes),
  );

const add = { reduction: string("add") };

/** A Resize of [1, 2, 4, 5], or as given. */
function resize(
  to: { readonly sizes: Shape } | { readonly scales: readonly number[] },
  attributes: Attributes,
  shape: Shape = [1, 2, 4, 5],
) {
  return opCase(
    { x: shape },
    (b, { x }) => {
      const scales = "scales" in to
        ? b.table(to.scales, { dtype: "float32", shape: [to.scales.length] })
        : undefined;
      const sizes = "sizes" in to ? b.ints(to.sizes) : undefined;
      return b.call("Resize", [x, undefined, scales, sizes], attributes);
    },
    { linear: true },
  );
}

const COORDINATES = [
  "half_pixel",
  "half_pixel_symmetric",
  "pytorch_half_pixel",
  "align_corners",
  "asymmetric",
];

/** Enlarged and shrunk by uneven factors, to one pixel, and by scales that are not the ratio of the sizes. */
function resizes(mode: string, extra: Attributes = {}): Record<string, OpCase> {
  return Object.fromEntries(COORDINATES.flatMap((coordinates) => {
    const attributes = {
      mode: string(mode),
      coordinate_transformation_mode: string(coordinates),
      ...extra,
    };
    const said = Object.entries(extra).map(([key, { value }]) => `${key} ${value}`);
    const name = [mode, coordinates, ...said].join(", ");
    return [
      [`${name}, larger`, resize({ sizes: [1, 2, 7, 9] }, attributes)],
      [`${name}, smaller`, resize({ sizes: [1, 1, 3, 4] }, attributes, [1, 1, 8, 9])],
      [`${name}, one pixel high`, resize({ sizes: [1, 1, 1, 8] }, attributes, [1, 1, 4, 5])],
      [`${name}, scales`, resize({ scales: [1, 1, 1.7, 0.7] }, attributes)],
      [`${name}, a scale that keeps a size`, resize({ scales: [1, 1, 1.2, 1.3] }, attributes)],
    ];
  }));
}

const nearest = (rounding: string) => resizes("nearest", { nearest_mode: string(rounding) });

/** Cases of operators that move elements. */
export const SHAPE_CASES = {
  Reshape: {
    "given": move((b, x) => b.reshape(x, [6, 4])),
    "one dimension left open": move((b, x) => b.reshape(x, [4, -1])),
    "0 keeps a dimension": move((b, x) => b.reshape(x, [0, -1])),
    "to a scalar": move((b, x) => b.reshape(x, []), [1, 1]),
  },
  Flatten: {
    "default": move((b, x) => b.call("Flatten", [x])),
    "axis 0": move((b, x) => b.call("Flatten", [x], { axis: int(0) })),
    "negative axis": move((b, x) => b.call("Flatten", [x], { axis: int(-1) })),
  },
  Squeeze: {
    "one axis": move((b, x) => b.squeeze(x, [-3]), [2, 1, 3, 1]),
    "all of size 1": move((b, x) => b.call("Squeeze", [x]), [2, 1, 3, 1]),
  },
  Unsqueeze: { "axes out of order": move((b, x) => b.unsqueeze(x, [-1, 1])) },
  Transpose: {
    "given": move((b, x) => b.transpose(x, [1, 2, 0])),
    "reversed by default": move((b, x) => b.call("Transpose", [x])),
  },
  Concat: {
    "three": opCase(
      { x: [2, 3], y: [2, 1], z: [2, 2] },
      (b, { x, y, z }) => b.concat([x, y, z], 1),
    ),
    "negative axis": opCase({ x: [2, 3], y: [1, 3] }, (b, { x, y }) => b.concat([x, y], -2)),
    "twice the same": opCase(
      { x: [2, 3] },
      (b, { x }) => b.call("Concat", [x, x], { axis: int(0) }),
    ),
  },
  Split: {
    "all parts": move((b, x) => b.split(x, [1, 3], -1)),
    "a part alone": move((b, x) => b.split(x, [1, 1, 2], 2).slice(1, 2)),
  },
  Slice: {
    "axes and steps by default": slice({ starts: [1, 0, 2], ends: [3, 4, 5] }),
    "negative positions": slice({ starts: [-3], ends: [-1], axes: [-2] }),
    "beyond the end": slice({ starts: [2], ends: [1000], axes: [1] }),
    "step 2": slice({ starts: [1], ends: [6], axes: [2], steps: [2] }),
    "steps 2 and 3": slice({ starts: [0, 1], ends: [4, 6], axes: [0, 2], steps: [2, 3] }),
    "step 3 to the last entry": slice({ starts: [0], ends: [4], axes: [0], steps: [3] }),
    "reversed": slice({ starts: [-1], ends: [-1000], axes: [1], steps: [-1] }),
    "reversed step 2": slice({ starts: [4], ends: [0], axes: [1], steps: [-2] }),
    "reversed along two axes": slice({
      starts: [3, 5],
      ends: [0, 1],
      axes: [0, 2],
      steps: [-2, -3],
    }),
    "one entry": slice({ starts: [2], ends: [3], axes: [0] }),
  },
  Pad: {
    "constant": pad("constant", [1, 0, 2, 0, 1, 3]),
    "constant, negative": pad("constant", [0, -1, 2, 0, 0, -2]),
    "constant, axes": pad("constant", [1, 2, 0, 3], [2, 0]),
    "value": opCase(
      { x: [2, 3], value: [] },
      (b, { x, value }) => b.call("Pad", [x, b.ints([1, 0, 2, -1]), value]),
    ),
    "edge": pad("edge", [1, 0, 2, 0, 1, 3]),
    "edge, negative": pad("edge", [0, -1, 2, 0, 2, -1]),
    "reflect": pad("reflect", [1, 2, 0, 0, 1, 3]),
    "wrap": pad("wrap", [1, 2, 0, 2, 1, 3]),
    "wrap, axes": pad("wrap", [3, 2], [-1]),
  },
  Expand: {
    "axes of size 1": move((b, x) => b.expand(x, [2, 3, 4]), [2, 1, 4]),
    "higher rank": move((b, x) => b.expand(x, [2, 3, 4]), [3, 1]),
    "target of size 1": move((b, x) => b.call("Expand", [x, b.ints([2, 1, 1])]), [3, 4]),
  },
  Tile: {
    "": move((b, x) => b.call("Tile", [x, b.ints([2, 1, 3])])),
    "rank 1": move((b, x) => b.call("Tile", [x, b.ints([3])]), [2]),
  },
  Gather: {
    "repeated rows": gather([4, 3], index([3], [1, 3, 1])),
    "matrix of indices": gather([4, 3], index([2, 2], [0, 2, 2, 1])),
    "middle axis": gather([2, 4, 3], index([3], [3, 0, 3]), { axis: int(1) }),
    "negative axis and indices": gather([2, 4, 3], index([2], [-1, 0]), { axis: int(-1) }),
    "scalar index": gather([4, 3], index([], [2])),
    "int32 indices": gather([4, 3], { dtype: "int32", shape: [2], data: Int32Array.of(3, -4) }),
    "one known index": move((b, x) => b.gather(x, b.ints([-2]), 1)),
    "known scalar index": move((b, x) => b.gather(x, b.constant(int64([1], [])), -1)),
    "known indices": move((b, x) => b.gather(x, b.ints([2, 0, 2]), 1)),
  },
  GatherElements: {
    "axis 0": gatherElements([3, 2], index([2, 2], [0, 2, 0, 1]), 0),
    "last axis": gatherElements([2, 3], index([2, 4], [0, 1, 1, 2, 2, 0, -1, 0]), -1),
  },
  GatherND: {
    "elements": gatherNd([2, 3], index([3, 2], [0, 1, 1, 2, 0, 1])),
    "rows": gatherNd([3, 2, 2], index([2, 2, 1], [0, 2, -1, 1])),
    "one batch axis": gatherNd([2, 3, 2], index([2, 2, 1], [0, 2, 1, 1]), 1),
    "two batch axes": gatherNd([2, 2, 3], index([2, 2, 1], [0, 2, 1, 1]), 2),
  },
  ScatterElements: {
    "replaces": scatter("ScatterElements", {
      x: [3, 2],
      at: index([2, 2], [0, 2, 1, 0]),
      updates: [2, 2],
    }),
    "adds": scatter("ScatterElements", {
      x: [2, 4],
      at: index([2, 3], [0, 0, 2, 3, -1, 1]),
      updates: [2, 3],
      attributes: { ...add, axis: int(-1) },
    }),
    "multiplies": scatter("ScatterElements", {
      x: [2, 4],
      at: index([2, 3], [0, 0, 2, 3, -1, 1]),
      updates: [2, 3],
      attributes: { reduction: string("mul"), axis: int(1) },
    }),
    "keeps the largest": scatter("ScatterElements", {
      x: { shape: [2, 4], spacing: 0.5 },
      at: index([2, 3], [0, 0, 2, 3, -1, 1]),
      updates: { shape: [2, 3], spacing: 0.37 },
      attributes: { reduction: string("max"), axis: int(1) },
    }),
  },
  ScatterND: {
    "replaces": scatter("ScatterND", { x: [4, 3], at: index([2, 1], [2, 0]), updates: [2, 3] }),
    "adds": scatter("ScatterND", {
      x: [3, 3],
      at: index([3, 2], [0, 1, 2, 2, 0, 1]),
      updates: [3],
      attributes: add,
    }),
    "multiplies": scatter("ScatterND", {
      x: [3, 3],
      at: index([3, 2], [0, 1, 2, 2, 0, 1]),
      updates: [3],
      attributes: { reduction: string("mul") },
    }),
    "keeps the smallest": scatter("ScatterND", {
      x: { shape: [3, 3], spacing: 0.5 },
      at: index([2, 1], [2, 0]),
      updates: { shape: [2, 3], spacing: 0.37 },
      attributes: { reduction: string("min") },
    }),
  },
  Trilu: {
    "upper": move((b, x) => b.call("Trilu", [x])),
    "lower": move((b, x) => b.call("Trilu", [x], { upper: int(0) })),
    "above the diagonal": move((b, x) => b.call("Trilu", [x, b.constant(int64([1], []))])),
    "below the diagonal": move((b, x) =>
      b.call("Trilu", [x, b.constant(int64([-1], []))], { upper: int(0) })
    ),
  },
  DepthToSpace: {
    "depth first": move((b, x) => b.call("DepthToSpace", [x], { blocksize: int(2) }), [1, 8, 2, 3]),
    "columns first": move(
      (b, x) => b.call("DepthToSpace", [x], { blocksize: int(2), mode: string("CRD") }),
      [1, 8, 2, 3],
    ),
  },
  SpaceToDepth: {
    "": move((b, x) => b.call("SpaceToDepth", [x], { blocksize: int(2) }), [1, 2, 4, 6]),
  },
  Resize: {
    ...nearest("round_prefer_floor"),
    ...nearest("round_prefer_ceil"),
    ...nearest("floor"),
    ...nearest("ceil"),
    ...resizes("linear"),
    ...resizes("linear", { antialias: int(1) }),
    ...resizes("cubic"),
    ...resizes("cubic", { cubic_coeff_a: float(-0.5) }),
    ...resizes("cubic", { exclude_outside: int(1) }),
    ...resizes("cubic", { antialias: int(1) }),
    ...resizes("linear", { antialias: int(1), exclude_outside: int(1) }),
    ...resizes("cubic", { antialias: int(1), exclude_outside: int(1), cubic_coeff_a: float(-0.5) }),
    // 2.5 / 0.6 - 0.5 is 2 in float32 only.
    "nearest, on the last bit": resize({ scales: [1, 1, 1, 0.6] }, {
      nearest_mode: string("floor"),
    }),
    "axes": resize({ sizes: [7, 6] }, { axes: ints([3, 2]), mode: string("linear") }),
    "whole factor": opCase(
      { x: [1, 2, 3, 2] },
      (b, { x }) => b.upsampleNearest(x, 2),
      { linear: true },
    ),
    // 10 · 0.7 is 7 in float32, and less in float64.
    "a size on the last bit": resize(
      { scales: [1, 1, 1, 0.7] },
      { mode: string("linear") },
      [1, 1, 1, 10],
    ),
    "scales that keep the shape": resize({ scales: [1, 1, 1.2, 1.1] }, { mode: string("linear") }),
    "one axis": resize({ sizes: [2, 3, 7] }, { mode: string("linear") }, [2, 3, 4]),
  },
} satisfies Record<string, Record<string, OpCase>>;
