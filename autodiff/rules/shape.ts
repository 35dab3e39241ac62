import { int, string } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import type { Value } from "../graph.ts";
import { type ResizeMap, resizeMaps } from "../infer/_resize.ts";
import { constantInts } from "../infer/_types.ts";
import { type AttributeValues, dim, normalizeAxis } from "../infer/mod.ts";
import { type PadRange, padRanges, permutation, sliceRanges } from "../infer/shape.ts";
import { type Shape, sizeOf } from "../tensor.ts";
import { cotangent, input, type Rule, type RuleContext, type Rules, unary } from "./_types.ts";

const zeros = (b: Builder, x: Value, shape: Shape = x.shape): Value =>
  b.expand(b.scalar(0, x.dtype), shape);

const axisOf = (x: Value, c: RuleContext<{ readonly axis: number }>): number =>
  normalizeAxis(c.attributes.axis, x.shape.length);

const reshape: Rule = unary((b, dy, x) => b.reshape(dy, x.shape));

const transpose: Rule<AttributeValues["Transpose"]> = unary((b, dy, x, _y, c) => {
  const perm = permutation(c);
  return b.transpose(dy, x.shape.map((_, i) => perm.indexOf(i)));
});

const concat: Rule<AttributeValues["Concat"]> = (c) => {
  const axis = axisOf(input(c, 0), c);
  let end = 0;
  return c.inputs.map((_, i) => {
    const start = end;
    end += dim(input(c, i).shape, axis);
    return c.wants[i] ? c.b.slice(cotangent(c), { axis, start, end }) : undefined;
  });
};

const split: Rule<AttributeValues["Split"]> = (c) => {
  const x = input(c, 0);
  const parts = c.outputs.map((y, i) => c.cotangents[i] ?? zeros(c.b, x, y.shape));
  return [c.b.concat(parts, axisOf(x, c))];
};

/** Slice's adjoint puts dy back among zeros: a Pad where the step is 1, interleaved zeros first where it is not. */
const slice: Rule = unary((b, dy, x, _y, c) => {
  const ranges = sliceRanges(c);
  if (ranges.some(({ length }) => length === 0)) return zeros(b, x);
  const before = x.shape.map(() => 0);
  const after = x.shape.map(() => 0);
  let g = dy;
  for (const { axis, start, step, length } of ranges) {
    if (step < 0) g = b.reverse(g, [axis]);
    g = interleave(b, g, axis, Math.abs(step));
    const last = start + step * (length - 1);
    before[axis] = Math.min(start, last);
    after[axis] = dim(x.shape, axis) - 1 - Math.max(start, last);
  }
  return b.pad(g, { pads: [...before, ...after] });
});

/** x with `stride - 1` zeros between neighbours along an axis. */
function interleave(b: Builder, x: Value, axis: number, stride: number): Value {
  const n = dim(x.shape, axis);
  if (stride === 1 || n === 1) return x;
  const apart = [...x.shape.slice(0, axis + 1), 1, ...x.shape.slice(axis + 1)];
  const pads = [...apart.map(() => 0), ...apart.map((_, i) => i === axis + 1 ? stride - 1 : 0)];
  const wide = b.pad(b.reshape(x, apart), { pads });
  const joined = b.reshape(wide, x.shape.map((d, i) => i === axis ? d * stride : d));
  return b.slice(joined, { axis, start: 0, end: (n - 1) * stride + 1 });
}

/** The gradient of constant padding's value is what did not go to x. */
const pad: Rule<AttributeValues["Pad"]> = (c) => {
  const { b } = c;
  const dy = cotangent(c);
  const { mode } = c.attributes;
  const dx = padRanges(c).reduce(
    (g, range) => mode === "constant" ? unpad(b, g, range) : fold(b, g, range, mode),
    dy,
  );
  const rest = () => b.reshape(b.sub(b.sum(dy), b.sum(dx)), input(c, 2).shape);
  return [dx, undefined, c.wants[2] ? rest() : undefined];
};

/** The part of dy that came from x; negative padding cut x, so its gradient is zero there. */
function unpad(b: Builder, dy: Value, { axis, before, after }: PadRange): Value {
  const kept = b.slice(dy, {
    axis,
    start: Math.max(before, 0),
    end: dim(dy.shape, axis) - Math.max(after, 0),
  });
  const lost = (n: number) => dy.shape.map((_, i) => i === axis ? Math.max(-n, 0) : 0);
  return b.pad(kept, { pads: [...lost(before), ...lost(after)] });
}

/** Adjoint of edge, reflect and wrap padding along one axis: each entry goes back to where it came from. */
function fold(b: Builder, dy: Value, { axis, before, after }: PadRange, mode: string): Value {
  const total = dim(dy.shape, axis);
  const size = total - before - after;
  const matrix = new Float64Array(total * size);
  for (let o = 0; o < total; o++) matrix[o * size + padSource(o - before, size, mode)] = 1;
  return mapBack(b, dy, { axis, matrix, size });
}

/** Index in 0..size-1 that entry `at` of a padded axis copies. */
function padSource(at: number, size: number, mode: string): number {
  if (mode === "edge") return Math.min(Math.max(at, 0), size - 1);
  if (mode === "wrap") return (at + size) % size;
  return at < 0 ? -at : at < size ? at : 2 * (size - 1) - at;
}

/** The transpose of a linear map of lines along one axis, [entries of dy, size] row by row, applied to dy. */
function mapBack(
  b: Builder,
  dy: Value,
  { axis, matrix, size }: {
    readonly axis: number;
    readonly matrix: Float64Array;
    readonly size: number;
  },
): Value {
  const n = dim(dy.shape, axis);
  const map = b.table(matrix, { dtype: dy.dtype, shape: [n, size] });
  const shape = dy.shape.map((d, i) => i === axis ? size : d);
  if (axis === dy.shape.length - 1) return b.matMul(dy, map);
  const tail = sizeOf(dy.shape.slice(axis + 1));
  const lines = b.reshape(dy, [sizeOf(dy.shape) / n / tail, n, tail]);
  return b.reshape(b.matMul(b.transpose(map, [1, 0]), lines), shape);
}

const tile: Rule = unary((b, dy, x, _y, c) => {
  const repeats = constantInts(c.inputs[1], "Repeats") ?? [];
  const apart = x.shape.flatMap((d, i) => [dim(repeats, i), d]);
  return b.sum(b.reshape(dy, apart), { axes: x.shape.map((_, i) => 2 * i), keepDims: false });
});

/** Gather's adjoint adds entries of dy at the indices: beside zeros for one known index, by ScatterND otherwise. */
const gather: Rule<AttributeValues["Gather"]> = unary((b, dy, x, _y, c) => {
  const indices = input(c, 1);
  const axis = axisOf(x, c);
  const [rows, n] = [dim(x.shape, axis), sizeOf(indices.shape)];
  const known = constantOf(indices)?.data;
  if (known?.length === 1) {
    const at = normalizeAxis(Number(known[0]), rows);
    const row = b.reshape(dy, x.shape.map((d, i) => i === axis ? 1 : d));
    const only = (n: number) => x.shape.map((_, i) => i === axis ? n : 0);
    return b.pad(row, { pads: [...only(at), ...only(rows - 1 - at)] });
  }
  const [lead, tail] = [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis + 1))];
  const byIndex = b.transpose(b.reshape(dy, [lead, n, tail]), [1, 0, 2]);
  const at = b.reshape(b.cast(indices, "int64"), [n, 1]);
  const sum = b.scatterNdAdd(zeros(b, x, [rows, lead, tail]), at, byIndex);
  return b.reshape(b.transpose(sum, [1, 0, 2]), x.shape);
});

const gatherElements: Rule<AttributeValues["GatherElements"]> = unary((b, dy, x, _y, c) =>
  b.scatterAdd(zeros(b, x), input(c, 1), dy, axisOf(x, c))
);

const gatherNd: Rule<AttributeValues["GatherND"]> = unary((b, dy, x, _y, c) =>
  b.scatterNdAdd(zeros(b, x), fullIndices(b, input(c, 1), c.attributes.batch_dims), dy)
);

/** GatherND's indices with the coordinates of their batch written out in front. */
function fullIndices(b: Builder, indices: Value, batch: number): Value {
  const at = b.cast(indices, "int64");
  const coordinates = Array.from({ length: batch }, (_, axis) => {
    const shape = indices.shape.map((d, i) => i === axis ? d : 1);
    const count = Float64Array.from({ length: dim(indices.shape, axis) }, (_, k) => k);
    const table = b.table(count, { dtype: "int64", shape });
    return b.expand(table, [...indices.shape.slice(0, -1), 1]);
  });
  return b.concat([...coordinates, at], indices.shape.length - 1);
}

const depthToSpace: Rule<AttributeValues["DepthToSpace"]> = unary((b, dy, x, _y, c) => {
  const { blocksize: block, mode } = c.attributes;
  const [n = 1, channels = 1, h = 1, w = 1] = x.shape;
  const apart = b.reshape(dy, [n, channels / (block * block), h, block, w, block]);
  const crd = mode === "CRD";
  return b.reshape(b.transpose(apart, crd ? [0, 1, 3, 5, 2, 4] : [0, 3, 5, 1, 2, 4]), x.shape);
});

const spaceToDepth: Rule<AttributeValues["SpaceToDepth"]> = unary((b, dy, _x, _y, c) =>
  b.call("DepthToSpace", [dy], {
    blocksize: int(c.attributes.blocksize),
    mode: string("DCR"),
  })
);

/** Resize is linear along each axis: its adjoint is the transposed map, or a sum where entries are just repeated. */
const resize: Rule<AttributeValues["Resize"]> = unary((b, dy, x, _y, c) => {
  const repeats = x.shape.map(() => 1);
  let g = dy;
  for (const map of resizeMaps(c)) {
    if (isRepetition(map)) repeats[map.axis] = map.size / map.length;
    else g = mapBack(b, g, { ...map, size: map.length });
  }
  const apart = x.shape.flatMap((d, i) => [d, dim(repeats, i)]);
  const axes = repeats.flatMap((factor, i) => factor > 1 ? [2 * i + 1] : []);
  return b.reshape(b.sum(b.reshape(g, apart), { axes }), x.shape);
});

/** True where a map repeats each entry a whole number of times. */
function isRepetition({ matrix, length, size }: ResizeMap): boolean {
  return size % length === 0 &&
    matrix.every((v, k) => v === Number(Math.floor(k / size) === k % length));
}

/** Rules of operators that move elements. */
export const SHAPE_RULES = {
  Reshape: reshape,
  Flatten: reshape,
  Squeeze: reshape,
  Unsqueeze: reshape,
  Transpose: transpose,
  Concat: concat,
  Split: split,
  Slice: slice,
  Pad: pad,
  Expand: unary((_b, dy) => dy),
  Tile: tile,
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherNd,
  Trilu: unary((b, dy, _x, _y, c) =>
    b.call("Trilu", [dy, c.inputs[1]], { upper: int(c.attributes.upper) })
  ),
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
  Resize: resize,
} satisfies Rules;
