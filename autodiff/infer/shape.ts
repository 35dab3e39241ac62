import { intOf, intsOf, stringOf } from "../attributes.ts";
import { type Shape, sizeOf } from "../tensor.ts";
import {
  axesOf,
  broadcast,
  constantInts,
  dim,
  type Infer,
  type InferContext,
  normalizeAxis,
  required,
  sameDType,
  type,
} from "./_types.ts";

function needInts(c: InferContext, i: number, what: string): readonly number[] {
  const v = constantInts(c.inputs[i], what);
  if (v === undefined) throw new Error(`Input ${i} (${what}) is missing`);
  return v;
}

const reshape: Infer = (c) => {
  const x = required(c, 0);
  const target = needInts(c, 1, "Shape");
  const allowZero = intOf(c.attributes, "allowzero", 0) === 1;
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
};

const concat: Infer = (c) => {
  const first = required(c, 0);
  const axis = normalizeAxis(intOf(c.attributes, "axis", 0), first.shape.length);
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
};

/** Begin, end and step of a Slice on every axis, clamped as ONNX defines. */
export interface SliceRange {
  readonly axis: number;
  readonly start: number;
  readonly step: number;
  readonly length: number;
}

/** The ranges a Slice takes, one per sliced axis. */
export function sliceRanges(c: Pick<InferContext, "inputs">, shape: Shape): readonly SliceRange[] {
  const starts = constantInts(c.inputs[1], "Starts");
  const ends = constantInts(c.inputs[2], "Ends");
  if (starts === undefined || ends === undefined) throw new Error("Starts or ends are missing");
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

/** Sizes of the parts of a Split. */
export function splitSizes(
  c: Pick<InferContext, "inputs" | "attributes" | "outputs">,
  total: number,
) {
  const given = constantInts(c.inputs[1], "Split") ?? intsOf(c.attributes, "split");
  if (given !== undefined) {
    if (given.reduce((a, b) => a + b, 0) !== total) {
      throw new Error(`Parts [${given}] do not add up to ${total}`);
    }
    return given;
  }
  const n = intOf(c.attributes, "num_outputs", c.outputs);
  const part = Math.ceil(total / n);
  return Array.from({ length: n }, (_, i) => i < n - 1 ? part : total - part * (n - 1));
}

const gather: Infer = (c) => {
  const x = required(c, 0);
  const indices = required(c, 1);
  const axis = normalizeAxis(intOf(c.attributes, "axis", 0), x.shape.length);
  return [type(x.dtype, [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)])];
};

const resize: Infer = (c) => {
  const x = required(c, 0);
  const scales = c.inputs[2];
  const scale = scales?.source.kind === "constant" && scales.source.tensor.data.length > 0
    ? Array.from(scales.source.tensor.data, Number)
    : undefined;
  const sizes = constantInts(c.inputs[3], "Sizes");
  const axes = intsOf(c.attributes, "axes")?.map((a) => normalizeAxis(a, x.shape.length)) ??
    x.shape.map((_, i) => i);
  const shape = [...x.shape];
  if (stringOf(c.attributes, "keep_aspect_ratio_policy", "stretch") !== "stretch") {
    throw new Error("keep_aspect_ratio_policy other than stretch is not supported");
  }
  for (const [i, axis] of axes.entries()) {
    if (sizes !== undefined && sizes.length > 0) shape[axis] = dim(sizes, i);
    else if (scale !== undefined) shape[axis] = Math.floor(dim(x.shape, axis) * dim(scale, i));
    else throw new Error("Resize needs constant sizes or scales");
  }
  return [type(x.dtype, shape)];
};

/** Operators that move elements. */
export const SHAPE = {
  Reshape: reshape,
  Flatten: (c) => {
    const x = required(c, 0);
    const axis = intOf(c.attributes, "axis", 1);
    const at = axis < 0 ? axis + x.shape.length : axis;
    return [type(x.dtype, [sizeOf(x.shape.slice(0, at)), sizeOf(x.shape.slice(at))])];
  },
  Transpose: (c) => {
    const x = required(c, 0);
    const perm = intsOf(c.attributes, "perm") ?? x.shape.map((_, i) => x.shape.length - 1 - i);
    if ([...perm].sort((a, b) => a - b).join() !== x.shape.map((_, i) => i).join()) {
      throw new Error(`perm [${perm}] is no permutation of ${x.shape.length} axes`);
    }
    return [type(x.dtype, perm.map((p) => dim(x.shape, p)))];
  },
  Squeeze: (c) => {
    const x = required(c, 0);
    const axes = axesOf(c, 1, x.shape.length) ??
      x.shape.flatMap((d, i) => d === 1 ? [i] : []);
    for (const a of axes) {
      if (x.shape[a] !== 1) throw new Error(`Axis ${a} of [${x.shape}] is not 1`);
    }
    return [type(x.dtype, x.shape.filter((_, i) => !axes.includes(i)))];
  },
  Unsqueeze: (c) => {
    const x = required(c, 0);
    const count = (constantInts(c.inputs[1], "Axes") ?? intsOf(c.attributes, "axes"))?.length;
    if (count === undefined) throw new Error("Axes are missing");
    const axes = axesOf(c, 1, x.shape.length + count) ?? [];
    const shape = [...x.shape];
    for (const a of axes) shape.splice(a, 0, 1);
    return [type(x.dtype, shape)];
  },
  Concat: concat,
  Split: (c) => {
    const x = required(c, 0);
    const axis = normalizeAxis(intOf(c.attributes, "axis", 0), x.shape.length);
    return splitSizes(c, dim(x.shape, axis)).map((part) =>
      type(x.dtype, x.shape.map((d, i) => i === axis ? part : d))
    );
  },
  Slice: (c) => {
    const x = required(c, 0);
    const shape = [...x.shape];
    for (const r of sliceRanges(c, x.shape)) shape[r.axis] = r.length;
    return [type(x.dtype, shape)];
  },
  Pad: (c) => {
    const x = required(c, 0);
    const pads = constantInts(c.inputs[1], "Pads") ?? intsOf(c.attributes, "pads");
    if (pads === undefined) throw new Error("Pads are missing");
    const axes = constantInts(c.inputs[3], "Axes")?.map((a) => normalizeAxis(a, x.shape.length)) ??
      x.shape.map((_, i) => i);
    if (pads.length !== 2 * axes.length) {
      throw new Error(`Pads [${pads}] do not fit ${axes.length} axes`);
    }
    const shape = [...x.shape];
    for (const [i, a] of axes.entries()) {
      shape[a] = dim(x.shape, a) + dim(pads, i) + dim(pads, i + axes.length);
    }
    return [type(x.dtype, shape)];
  },
  Expand: (c) => {
    const x = required(c, 0);
    return [type(x.dtype, broadcast(x.shape, needInts(c, 1, "Shape")))];
  },
  Tile: (c) => {
    const x = required(c, 0);
    const repeats = needInts(c, 1, "Repeats");
    return [type(x.dtype, x.shape.map((d, i) => d * dim(repeats, i)))];
  },
  Gather: gather,
  GatherElements: (c) => [type(required(c, 0).dtype, required(c, 1).shape)],
  GatherND: (c) => {
    const x = required(c, 0);
    const indices = required(c, 1);
    const batch = intOf(c.attributes, "batch_dims", 0);
    return [
      type(x.dtype, [
        ...indices.shape.slice(0, -1),
        ...x.shape.slice(batch + dim(indices.shape, -1)),
      ]),
    ];
  },
  ScatterElements: (c) => [type(required(c, 0).dtype, required(c, 0).shape)],
  ScatterND: (c) => [type(required(c, 0).dtype, required(c, 0).shape)],
  Trilu: (c) => [type(required(c, 0).dtype, required(c, 0).shape)],
  DepthToSpace: (c) => {
    const x = required(c, 0);
    const b = intOf(c.attributes, "blocksize", 0);
    const [n, ch, h, w] = [dim(x.shape, 0), dim(x.shape, 1), dim(x.shape, 2), dim(x.shape, 3)];
    if (b < 1 || ch % (b * b) !== 0) throw new Error(`${ch} channels do not fit blocksize ${b}`);
    return [type(x.dtype, [n, ch / (b * b), h * b, w * b])];
  },
  SpaceToDepth: (c) => {
    const x = required(c, 0);
    const b = intOf(c.attributes, "blocksize", 0);
    const [n, ch, h, w] = [dim(x.shape, 0), dim(x.shape, 1), dim(x.shape, 2), dim(x.shape, 3)];
    if (b < 1 || h % b !== 0 || w % b !== 0) {
      throw new Error(`[${x.shape}] does not fit blocksize ${b}`);
    }
    return [type(x.dtype, [n, ch * b * b, h / b, w / b])];
  },
  Resize: resize,
  Shape: (c) => {
    const x = required(c, 0);
    const rank = x.shape.length;
    const at = (v: number) => Math.min(Math.max(v < 0 ? v + rank : v, 0), rank);
    const n = at(intOf(c.attributes, "end", rank)) - at(intOf(c.attributes, "start", 0));
    return [type("int64", [Math.max(n, 0)])];
  },
  Size: () => [type("int64", [])],
} satisfies Record<string, Infer>;
