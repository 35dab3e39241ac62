import type { AttributeReader } from "../attributes.ts";
import { type Shape, sizeOf } from "../tensor.ts";
import type { ValueType } from "../value_type.ts";
import { resizeAttributes, resizeAxes } from "./_resize.ts";
import { plain, spec } from "./_spec.ts";
import {
  axesOf,
  broadcast,
  constantInts,
  dim,
  type InferContext,
  normalizeAxis,
  required,
  requiredInts,
  sameDType,
  type,
} from "./_types.ts";

const reshape = spec((r) => ({ allowzero: r.flag("allowzero", false) }), (c) => {
  const x = required(c, 0);
  const target = requiredInts(c, 1, "Shape");
  const allowZero = c.attributes.allowzero;
  let shape: number[] = target.map((d, i) => d === 0 && !allowZero ? dim(x.shape, i) : d);
  const hole = shape.indexOf(-1);
  if (hole >= 0) {
    const rest = sizeOf(shape.filter((_, i) => i !== hole));
    shape = shape.map((d, i) => i === hole ? sizeOf(x.shape) / rest : d);
  }
  if (sizeOf(shape) !== sizeOf(x.shape) || shape.some((d) => !Number.isInteger(d) || d < 0)) {
    throw new Error(`[${x.shape}] does not reshape to [${target}]`);
  }
  return [type(x.dtype, shape)];
});

const firstAxis = (r: AttributeReader) => ({ axis: r.int("axis", 0) });

const concat = spec(firstAxis, (c) => {
  const first = required(c, 0);
  const axis = normalizeAxis(c.attributes.axis, first.shape.length);
  let total = 0;
  for (let i = 0; i < c.inputs.length; i++) {
    const v = required(c, i);
    sameDType(first, v);
    if (
      v.shape.length !== first.shape.length ||
      v.shape.some((d, k) => k !== axis && d !== first.shape[k])
    ) {
      throw new Error(`Input ${i} is [${v.shape}], expected [${first.shape}] but for axis ${axis}`);
    }
    total += dim(v.shape, axis);
  }
  return [type(first.dtype, first.shape.map((d, i) => i === axis ? total : d))];
});

/** Begin, end and step of a Slice on every axis, clamped as ONNX defines. */
export interface SliceRange {
  readonly axis: number;
  readonly start: number;
  readonly step: number;
  readonly length: number;
}

/** The ranges a Slice takes, one per sliced axis. */
export function sliceRanges(c: InferContext): readonly SliceRange[] {
  const { shape } = required(c, 0);
  const starts = requiredInts(c, 1, "Starts");
  const ends = requiredInts(c, 2, "Ends");
  const axes = constantInts(c.inputs[3], "Axes") ?? starts.map((_, i) => i);
  const steps = constantInts(c.inputs[4], "Steps") ?? starts.map(() => 1);
  return axes.map((a, i) => {
    const axis = normalizeAxis(a, shape.length);
    const size = dim(shape, axis);
    const step = dim(steps, i);
    if (step === 0) throw new Error("Slice step is 0");
    const wrap = (v: number) => v < 0 ? v + size : v;
    const clamp = (v: number, lo: number, hi: number) => Math.min(Math.max(v, lo), hi);
    const start = step > 0
      ? clamp(wrap(dim(starts, i)), 0, size)
      : clamp(wrap(dim(starts, i)), 0, size - 1);
    const end = step > 0
      ? clamp(wrap(dim(ends, i)), 0, size)
      : clamp(wrap(dim(ends, i)), -1, size - 1);
    return { axis, start, step, length: Math.max(0, Math.ceil((end - start) / step)) };
  });
}

const split = spec(firstAxis, (c) => {
  const x = required(c, 0);
  const axis = normalizeAxis(c.attributes.axis, x.shape.length);
  const parts = requiredInts(c, 1, "Split");
  if (parts.reduce((a, b) => a + b, 0) !== dim(x.shape, axis) || parts.some((part) => part < 0)) {
    throw new Error(`Parts [${parts}] do not add up to ${dim(x.shape, axis)}`);
  }
  return parts.map((part) => type(x.dtype, x.shape.map((d, i) => i === axis ? part : d)));
});

/** Padding before and after each padded axis; negative ones cut. */
export interface PadRange {
  readonly axis: number;
  readonly before: number;
  readonly after: number;
}

/** The axes a Pad changes. */
export function padRanges(c: InferContext): readonly PadRange[] {
  const { shape } = required(c, 0);
  const pads = requiredInts(c, 1, "Pads");
  const axes = constantInts(c.inputs[3], "Axes") ?? shape.map((_, i) => i);
  if (pads.length !== 2 * axes.length) {
    throw new Error(`Pads [${pads}] do not fit ${axes.length} axes`);
  }
  return axes.map((a, i) => ({
    axis: normalizeAxis(a, shape.length),
    before: dim(pads, i),
    after: dim(pads, i + axes.length),
  })).filter(({ before, after }) => before !== 0 || after !== 0);
}

const pad = spec((r) => ({ mode: r.string("mode", "constant") }), (c) => {
  const x = required(c, 0);
  const { mode } = c.attributes;
  if (!["constant", "edge", "reflect", "wrap"].includes(mode)) {
    throw new Error(`Mode "${mode}" is unknown`);
  }
  const shape = [...x.shape];
  for (const { axis, before, after } of padRanges(c)) {
    const size = dim(x.shape, axis);
    shape[axis] = size + before + after;
    const most = mode === "reflect" ? size - 1 : mode === "wrap" ? size : Infinity;
    if (size + before + after < 0 || Math.max(before, after) > most) {
      throw new Error(`Pads ${before} and ${after} (${mode}) do not fit axis ${axis} of ${size}`);
    }
  }
  return [type(x.dtype, shape)];
});

const gather = spec(firstAxis, (c) => {
  const x = required(c, 0);
  const indices = requiredIndex(c, 1);
  const axis = normalizeAxis(c.attributes.axis, x.shape.length);
  return [type(x.dtype, [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)])];
});

function requiredIndex(c: InferContext, i: number) {
  const v = required(c, i);
  if (v.dtype !== "int64" && v.dtype !== "int32") {
    throw new Error(`Input ${i} is ${v.dtype}, expected int64 or int32 indices`);
  }
  return v;
}

/** Shape of the updates that ScatterND takes, or of what GatherND returns. */
function selection(x: Shape, indices: Shape, batch: number): Shape {
  const depth = dim(indices, -1);
  const same = x.slice(0, batch).join() === indices.slice(0, batch).join();
  if (batch + depth > x.length || batch >= indices.length || !same) {
    throw new Error(`Indices [${indices}] with ${batch} batch axes do not fit [${x}]`);
  }
  return [...indices.slice(0, -1), ...x.slice(batch + depth)];
}

const withReduction = (r: AttributeReader) => ({ reduction: r.string("reduction", "none") });

/** The type of a scatter's output, whose updates must be of shape `expected`. */
function scattered(
  c: InferContext<{ readonly reduction: string }>,
  expected: Shape,
): readonly ValueType[] {
  const [x, updates] = [required(c, 0), required(c, 2)];
  sameDType(x, updates);
  const { reduction } = c.attributes;
  if (!["none", "add", "mul", "max", "min"].includes(reduction)) {
    throw new Error(`Reduction "${reduction}" is unknown`);
  }
  if (updates.shape.join() !== expected.join()) {
    throw new Error(`Updates are [${updates.shape}], expected [${expected}]`);
  }
  return [type(x.dtype, x.shape)];
}

/** Checks indices against the data of GatherElements or ScatterElements and returns their shape. */
function elementIndices(c: InferContext<{ readonly axis: number }>): Shape {
  const x = required(c, 0);
  const indices = requiredIndex(c, 1);
  const axis = normalizeAxis(c.attributes.axis, x.shape.length);
  const fits = indices.shape.length === x.shape.length &&
    indices.shape.every((d, i) => i === axis || d <= dim(x.shape, i));
  if (!fits) throw new Error(`Indices [${indices.shape}] do not fit [${x.shape}]`);
  return indices.shape;
}

const blockAttributes = (r: AttributeReader) => ({ blocksize: r.int("blocksize") });

function image(c: InferContext): readonly [number, number, number, number] {
  const { shape } = required(c, 0);
  if (shape.length !== 4) throw new Error(`Input is [${shape}], expected [N, C, H, W]`);
  return [dim(shape, 0), dim(shape, 1), dim(shape, 2), dim(shape, 3)];
}

/** For each axis of a Transpose's output the axis of its input; in reverse unless it says otherwise. */
export function permutation(
  c: InferContext<{ readonly perm: readonly number[] | undefined }>,
): readonly number[] {
  const { shape } = required(c, 0);
  return c.attributes.perm ?? shape.map((_, i) => shape.length - 1 - i);
}

/** Operators that move elements. */
export const SHAPE = {
  Reshape: reshape,
  Flatten: spec((r) => ({ axis: r.int("axis", 1) }), (c) => {
    const x = required(c, 0);
    const { axis } = c.attributes;
    const at = axis < 0 ? axis + x.shape.length : axis;
    return [type(x.dtype, [sizeOf(x.shape.slice(0, at)), sizeOf(x.shape.slice(at))])];
  }),
  Transpose: spec((r) => ({ perm: r.optionalInts("perm") }), (c) => {
    const x = required(c, 0);
    const perm = permutation(c);
    if ([...perm].sort((a, b) => a - b).join() !== x.shape.map((_, i) => i).join()) {
      throw new Error(`perm [${perm}] is no permutation of ${x.shape.length} axes`);
    }
    return [type(x.dtype, perm.map((p) => dim(x.shape, p)))];
  }),
  Squeeze: plain((c) => {
    const x = required(c, 0);
    const axes = axesOf(c, 1, x.shape.length) ?? x.shape.flatMap((d, i) => d === 1 ? [i] : []);
    const wide = axes.find((a) => x.shape[a] !== 1);
    if (wide !== undefined) throw new Error(`Axis ${wide} of [${x.shape}] is not 1`);
    return [type(x.dtype, x.shape.filter((_, i) => !axes.includes(i)))];
  }),
  Unsqueeze: plain((c) => {
    const x = required(c, 0);
    const count = requiredInts(c, 1, "Axes").length;
    const shape = [...x.shape];
    for (const a of axesOf(c, 1, x.shape.length + count) ?? []) shape.splice(a, 0, 1);
    return [type(x.dtype, shape)];
  }),
  Concat: concat,
  Split: split,
  Slice: plain((c) => {
    const x = required(c, 0);
    const shape = [...x.shape];
    for (const r of sliceRanges(c)) shape[r.axis] = r.length;
    return [type(x.dtype, shape)];
  }),
  Pad: pad,
  Expand: plain((c) => {
    const x = required(c, 0);
    return [type(x.dtype, broadcast(x.shape, requiredInts(c, 1, "Shape")))];
  }),
  Tile: plain((c) => {
    const x = required(c, 0);
    const repeats = requiredInts(c, 1, "Repeats");
    return [type(x.dtype, x.shape.map((d, i) => d * dim(repeats, i)))];
  }),
  Gather: gather,
  GatherElements: spec(firstAxis, (c) => [type(required(c, 0).dtype, elementIndices(c))]),
  GatherND: spec((r) => ({ batch_dims: r.int("batch_dims", 0) }), (c) => {
    const x = required(c, 0);
    const batch = c.attributes.batch_dims;
    return [type(x.dtype, selection(x.shape, requiredIndex(c, 1).shape, batch))];
  }),
  ScatterElements: spec(
    (r) => ({ ...firstAxis(r), ...withReduction(r) }),
    (c) => scattered(c, elementIndices(c)),
  ),
  ScatterND: spec(
    withReduction,
    (c) => scattered(c, selection(required(c, 0).shape, requiredIndex(c, 1).shape, 0)),
  ),
  Trilu: spec((r) => ({ upper: r.int("upper", 1) }), (c) => {
    const x = required(c, 0);
    if (x.shape.length < 2) throw new Error(`Input is [${x.shape}], expected rank 2 or more`);
    return [type(x.dtype, x.shape)];
  }),
  DepthToSpace: spec((r) => ({ ...blockAttributes(r), mode: r.string("mode", "DCR") }), (c) => {
    const [n, ch, h, w] = image(c);
    const b = c.attributes.blocksize;
    if (b < 1 || ch % (b * b) !== 0) throw new Error(`${ch} channels do not fit blocksize ${b}`);
    return [type(required(c, 0).dtype, [n, ch / (b * b), h * b, w * b])];
  }),
  SpaceToDepth: spec(blockAttributes, (c) => {
    const [n, ch, h, w] = image(c);
    const b = c.attributes.blocksize;
    if (b < 1 || h % b !== 0 || w % b !== 0) {
      throw new Error(`${h}x${w} does not fit blocksize ${b}`);
    }
    return [type(required(c, 0).dtype, [n, ch * b * b, h / b, w / b])];
  }),
  Resize: spec(
    resizeAttributes,
    (c) => [type(required(c, 0).dtype, resizeAxes(c).map(({ size }) => size))],
  ),
  Shape: spec((r) => ({ end: r.int("end", Infinity), start: r.int("start", 0) }), (c) => {
    const x = required(c, 0);
    const rank = x.shape.length;
    const at = (v: number) => Math.min(Math.max(v < 0 ? v + rank : v, 0), rank);
    const n = at(c.attributes.end) - at(c.attributes.start);
    return [type("int64", [Math.max(n, 0)])];
  }),
  Size: plain(() => [type("int64", [])]),
};
