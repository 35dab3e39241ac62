import { int, intOf, intsOf, stringOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { constantInts, dim, normalizeAxis } from "../infer/_types.ts";
import { sliceRanges, splitSizes } from "../infer/shape.ts";
import { type Shape, sizeOf } from "../tensor.ts";
import { cotangent, input, type Rule, unary } from "./_types.ts";

const reshape: Rule = unary((b, dy, x) => b.reshape(dy, x.shape));

const transpose: Rule = unary((b, dy, x, _y, c) => {
  const perm = intsOf(c.attributes, "perm") ?? x.shape.map((_, i) => x.shape.length - 1 - i);
  return b.transpose(dy, x.shape.map((_, i) => perm.indexOf(i)));
});

const concat: Rule = (c) => {
  const { b } = c;
  const axis = normalizeAxis(intOf(c.attributes, "axis", 0), input(c, 0).shape.length);
  let at = 0;
  return c.inputs.map((_, i) => {
    const size = dim(input(c, i).shape, axis);
    const start = at;
    at += size;
    return c.wants[i] ? b.slice(cotangent(c), { axis, start, end: start + size }) : undefined;
  });
};

const split: Rule = (c) => {
  const { b } = c;
  const x = input(c, 0);
  const axis = normalizeAxis(intOf(c.attributes, "axis", 0), x.shape.length);
  const sizes = splitSizes({ ...c, outputs: c.outputs.length }, dim(x.shape, axis));
  const parts = sizes.map((size, i) =>
    c.cotangents[i] ?? zeros(b, x.dtype, x.shape.map((d, k) => k === axis ? size : d))
  );
  return [b.concat(parts, axis)];
};

function zeros(b: Builder, dtype: Value["dtype"], shape: Shape): Value {
  return b.expand(b.scalar(0, dtype), shape);
}

/** Slice's adjoint puts dy back among zeros: a Pad where the step is 1, interleaved zeros first where it is not. */
const slice: Rule = unary((b, dy, x, _y, c) => {
  let g = dy;
  const ranges = sliceRanges(c, x.shape);
  const begin = x.shape.map(() => 0);
  const end = x.shape.map(() => 0);
  for (const { axis, start, step, length } of ranges) {
    const size = dim(x.shape, axis);
    if (length === 0) return zeros(b, x.dtype, x.shape);
    let first = start;
    if (step < 0) {
      g = reverse(b, g, axis);
      first = start + step * (length - 1);
    }
    const stride = Math.abs(step);
    if (stride > 1 && length > 1) g = interleave(b, g, { axis, stride });
    const covered = (length - 1) * stride + 1;
    begin[axis] = first;
    end[axis] = size - first - covered;
  }
  return b.pad(g, { pads: [...begin, ...end] });
});

function reverse(b: Builder, x: Value, axis: number): Value {
  return b.call("Slice", [x, b.ints([-1]), b.ints([-(2 ** 31)]), b.ints([axis]), b.ints([-1])]);
}

/** x with `stride - 1` zeros between neighbours along an axis. */
function interleave(
  b: Builder,
  x: Value,
  { axis, stride }: { axis: number; stride: number },
): Value {
  const n = dim(x.shape, axis);
  const apart = [...x.shape.slice(0, axis + 1), 1, ...x.shape.slice(axis + 1)];
  const pads = [...apart.map(() => 0), ...apart.map((_, i) => i === axis + 1 ? stride - 1 : 0)];
  const wide = b.pad(b.reshape(x, apart), { pads });
  const joined = b.reshape(wide, x.shape.map((d, i) => i === axis ? d * stride : d));
  return b.slice(joined, { axis, start: 0, end: (n - 1) * stride + 1 });
}

const pad: Rule = unary((b, dy, x, _y, c) => {
  const pads = constantInts(c.inputs[1], "Pads") ?? intsOf(c.attributes, "pads") ?? [];
  const axes = constantInts(c.inputs[3], "Axes")?.map((a) => normalizeAxis(a, x.shape.length)) ??
    x.shape.map((_, i) => i);
  const mode = stringOf(c.attributes, "mode", "constant");
  let g = dy;
  for (const [i, axis] of axes.entries()) {
    const [before, after] = [dim(pads, i), dim(pads, i + axes.length)];
    if (before === 0 && after === 0) continue;
    g = mode === "constant"
      ? crop(b, g, { axis, start: before, size: dim(x.shape, axis) })
      : fold(b, g, { axis, before, after, size: dim(x.shape, axis), mode });
  }
  return g;
});

interface Crop {
  readonly axis: number;
  readonly start: number;
  readonly size: number;
}

/** The part of g that came from x; negative padding cut x, so its gradient is zero there. */
function crop(b: Builder, g: Value, { axis, start, size }: Crop): Value {
  const from = Math.max(start, 0);
  const to = Math.min(start + size, dim(g.shape, axis));
  const inner = b.slice(g, { axis, start: from, end: to });
  const pads = [
    ...g.shape.map((_, i) => i === axis ? from - start : 0),
    ...g.shape.map((_, i) => i === axis ? start + size - to : 0),
  ];
  return b.pad(inner, { pads });
}

/** Adjoint of edge, reflect and wrap padding along one axis: a product with the 0/1 matrix of where each entry came from. */
function fold(
  b: Builder,
  g: Value,
  { axis, before, after, size, mode }: {
    axis: number;
    before: number;
    after: number;
    size: number;
    mode: string;
  },
): Value {
  const total = before + size + after;
  const matrix = new Float64Array(total * size);
  for (let o = 0; o < total; o++) {
    const at = o - before;
    let from: number;
    if (mode === "edge") from = Math.min(Math.max(at, 0), size - 1);
    else if (mode === "wrap") from = ((at % size) + size) % size;
    else {
      const period = Math.max(2 * (size - 1), 1);
      const m = ((at % period) + period) % period;
      from = m < size ? m : period - m;
    }
    matrix[o * size + from] = 1;
  }
  const last = g.shape.length - 1;
  const swap = g.shape.map((_, i) => i === axis ? last : i === last ? axis : i);
  const m = b.table(matrix, { dtype: g.dtype, shape: [total, size] });
  return b.transpose(b.matMul(b.transpose(g, swap), m), swap);
}

const expand: Rule = (c) => [cotangent(c)];

const tile: Rule = unary((b, dy, x, _y, c) => {
  const repeats = constantInts(c.inputs[1], "Repeats") ?? [];
  const apart = x.shape.flatMap((d, i) => [dim(repeats, i), d]);
  const axes = x.shape.map((_, i) => 2 * i);
  return b.sum(b.reshape(dy, apart), { axes, keepDims: false });
});

/**
 * Gather's adjoint adds rows of dy at the indices. Constant indices (an embedding of known tokens, a pooled token)
 * become a product with a 0/1 matrix; computed ones a ScatterND that adds.
 */
const gather: Rule = unary((b, dy, x, _y, c) => {
  const indices = input(c, 1);
  const axis = normalizeAxis(intOf(c.attributes, "axis", 0), x.shape.length);
  const [rows, n] = [dim(x.shape, axis), sizeOf(indices.shape)];
  const lead = x.shape.slice(0, axis);
  const tail = x.shape.slice(axis + 1);
  // [lead, n, tail] -> [n, lead · tail]
  const flat = b.reshape(dy, [sizeOf(lead), n, sizeOf(tail)]);
  const byRow = b.reshape(b.transpose(flat, [1, 0, 2]), [n, sizeOf(lead) * sizeOf(tail)]);
  const wrapped = b.where(
    b.less(indices, b.scalar(0, indices.dtype)),
    b.add(indices, b.scalar(rows, indices.dtype)),
    indices,
  );
  const at = b.reshape(b.cast(wrapped, "int64"), [n, 1]);
  const zero = zeros(b, x.dtype, [rows, sizeOf(lead) * sizeOf(tail)]);
  const [sum] = b.op("ScatterND", [zero, at, byRow], {
    reduction: { type: "string", value: "add" },
  });
  if (sum === undefined) throw new RangeError("ScatterND has an output");
  const back = b.transpose(b.reshape(sum, [rows, sizeOf(lead), sizeOf(tail)]), [1, 0, 2]);
  return b.reshape(back, x.shape);
});

const depthToSpace: Rule = unary((b, dy, x, _y, c) => {
  const block = intOf(c.attributes, "blocksize", 1);
  const [n = 1, ch = 1, h = 1, w = 1] = x.shape;
  const depth = ch / (block * block);
  const apart = b.reshape(dy, [n, depth, h, block, w, block]);
  const crd = stringOf(c.attributes, "mode", "DCR") === "CRD";
  return b.reshape(b.transpose(apart, crd ? [0, 1, 3, 5, 2, 4] : [0, 3, 5, 1, 2, 4]), x.shape);
});

const spaceToDepth: Rule = unary((b, dy, _x, _y, c) => {
  const block = intOf(c.attributes, "blocksize", 1);
  return b.call("DepthToSpace", [dy], { blocksize: int(block) });
});

/** Nearest-neighbour enlargement by whole factors: each source pixel collects its copies. */
const resize: Rule = unary((b, dy, x, y, c) => {
  const mode = stringOf(c.attributes, "mode", "nearest");
  const factors = x.shape.map((d, i) => dim(y.shape, i) / d);
  const transformation = stringOf(c.attributes, "coordinate_transformation_mode", "half_pixel");
  const whole = factors.every((f) => Number.isInteger(f));
  const floor = stringOf(c.attributes, "nearest_mode", "round_prefer_floor") === "floor";
  if (mode !== "nearest" || !whole || transformation !== "asymmetric" || !floor) {
    throw new RangeError(
      `Resize with mode ${mode}, ${transformation}, factors [${factors}] has no gradient; ` +
        "write it as a linear map",
    );
  }
  const apart = x.shape.flatMap((d, i) => [d, dim(factors, i)]);
  const axes = factors.flatMap((f, i) => f > 1 ? [2 * i + 1] : []);
  return b.reshape(b.sum(b.reshape(dy, apart), { axes }), x.shape);
});

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
  Expand: expand,
  Tile: tile,
  Gather: gather,
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
  Resize: resize,
} satisfies Record<string, Rule>;
