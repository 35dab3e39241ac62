import type { AttributeReader } from "../attributes.ts";
import { constantOf } from "../constant_of.ts";
import { constantInts, dim, type InferContext, normalizeAxis, required } from "./_types.ts";

/** What a Resize does along one axis. */
export interface ResizeAxis {
  /** Entries before and after. */
  readonly length: number;
  readonly size: number;
  /** The scale as given; not always size / length, since the size is rounded down. */
  readonly scale: number;
}

const MODES = ["nearest", "linear", "cubic"];
const COORDINATES = [
  "half_pixel",
  "half_pixel_symmetric",
  "pytorch_half_pixel",
  "align_corners",
  "asymmetric",
];
const ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];

/** Attributes of a Resize. */
export const resizeAttributes = (r: AttributeReader) => ({
  antialias: r.flag("antialias", false),
  axes: r.optionalInts("axes"),
  coordinate_transformation_mode: r.string("coordinate_transformation_mode", "half_pixel"),
  cubic_coeff_a: r.float("cubic_coeff_a", -0.75),
  exclude_outside: r.flag("exclude_outside", false),
  keep_aspect_ratio_policy: r.string("keep_aspect_ratio_policy", "stretch"),
  mode: r.string("mode", "nearest"),
  nearest_mode: r.string("nearest_mode", "round_prefer_floor"),
});

type ResizeAttributes = ReturnType<typeof resizeAttributes>;
type ResizeContext = InferContext<ResizeAttributes>;

/** Every axis of a Resize, from its constant scales or sizes. */
export function resizeAxes(c: ResizeContext): readonly ResizeAxis[] {
  checkOption(c, "mode", MODES);
  checkOption(c, "coordinate_transformation_mode", COORDINATES);
  checkOption(c, "nearest_mode", ROUNDINGS);
  checkOption(c, "keep_aspect_ratio_policy", ["stretch"]);
  const { shape } = required(c, 0);
  const scales = constantOf(c.inputs[2]);
  const sizes = constantInts(c.inputs[3], "Sizes");
  const given = sizes ?? (scales === undefined ? undefined : Array.from(scales.data, Number));
  const chosen = c.attributes.axes ?? shape.map((_, i) => i);
  if (given === undefined || given.length !== chosen.length) {
    throw new Error(`Resize needs constant scales or sizes, one for each of ${chosen.length} axes`);
  }
  const axes = shape.map((length) => ({ length, size: length, scale: 1 }));
  for (const [i, a] of chosen.entries()) {
    const axis = normalizeAxis(a, shape.length);
    const length = dim(shape, axis);
    const value = dim(given, i);
    // In float32, as ONNX Runtime: 10 · 0.7 is 7 there and less in float64.
    const size = sizes === undefined ? Math.floor(Math.fround(length * value)) : value;
    if (!(value > 0) || size < 1) throw new Error(`Axis ${axis} would have size ${size}`);
    axes[axis] = { length, size, scale: sizes === undefined ? value : size / length };
  }
  return axes;
}

function checkOption(
  { attributes }: ResizeContext,
  name: "mode" | "coordinate_transformation_mode" | "nearest_mode" | "keep_aspect_ratio_policy",
  known: readonly string[],
): void {
  const found = attributes[name];
  if (!known.includes(found)) {
    throw new Error(`Attribute ${name} is "${found}", expected one of ${known.join(", ")}`);
  }
}

/** What a Resize does to each line along an axis. */
export interface ResizeMap {
  readonly axis: number;
  readonly length: number;
  readonly size: number;
  /** [size, length], row by row. */
  readonly matrix: Float64Array;
}

/** The linear maps of a Resize, for the axes it changes. */
export function resizeMaps(c: ResizeContext): readonly ResizeMap[] {
  const axes = resizeAxes(c);
  const keeps = ({ length, size }: ResizeAxis) => length === size;
  // A scale that keeps the size shifts coordinates all the same, but ONNX Runtime copies what keeps its shape, and
  // with antialias whatever keeps its size.
  const copies = axes.every(keeps) ? () => true : c.attributes.antialias ? keeps : () => false;
  return axes.flatMap((axis, i) => {
    const { length, size, scale } = axis;
    if (scale === 1 || copies(axis)) return [];
    return [{ axis: i, length, size, matrix: resizeMatrix(c, axis) }];
  });
}

/** Most entries a resizing matrix may have: 8,192 pixels from as many. */
const LARGEST_MATRIX = 2 ** 26;

/**
 * The linear map of a Resize along one axis, [size, length]. `source` says from which coordinate each entry is taken, where
 * the operator's attributes do not.
 */
export function resizeMatrix(
  c: ResizeContext,
  axis: ResizeAxis,
  source = (o: number) => sourceOf(c, axis, o),
): Float64Array {
  const { length, size } = axis;
  if (length * size > LARGEST_MATRIX) {
    throw new RangeError(`Resize from ${length} to ${size} is too large to differentiate`);
  }
  const matrix = new Float64Array(size * length);
  for (let o = 0; o < size; o++) {
    const taps = tapsOf(c, axis, source(o));
    const total = taps.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [at, weight] of taps) {
      const i = o * length + Math.min(Math.max(at, 0), length - 1);
      matrix[i] = (matrix[i] ?? 0) + weight / total;
    }
  }
  return matrix;
}

/**
 * Coordinate in the input of output entry `o`. Rounded to float32 where ONNX Runtime rounds: which entry is nearest
 * may hang on the last bit.
 */
function sourceOf({ attributes }: ResizeContext, axis: ResizeAxis, o: number): number {
  const f = Math.fround;
  const { length, size } = axis;
  const scale = f(axis.scale);
  const halfPixel = f(f((o + 0.5) / scale) - 0.5);
  switch (attributes.coordinate_transformation_mode) {
    case "asymmetric":
      return f(o / scale);
    case "align_corners":
      return size === 1 ? 0 : f(o * (length - 1) / (size - 1));
    case "pytorch_half_pixel":
      return size === 1 ? 0 : halfPixel;
    case "half_pixel_symmetric": {
      const missing = f(1 - f(size / f(scale * length)));
      return f(f(f(length / 2 * missing) + f((o + 0.5) / scale)) - 0.5);
    }
    default:
      return halfPixel;
  }
}

/** Entries of the input, and their weights, that make the value at coordinate `x`; entries outside stand for the edge. */
function tapsOf(
  { attributes }: ResizeContext,
  { length, scale }: ResizeAxis,
  x: number,
): readonly (readonly [number, number])[] {
  const { mode, nearest_mode, cubic_coeff_a, antialias, exclude_outside } = attributes;
  if (mode === "nearest") return [[nearest(x, nearest_mode), 1]];
  const kernel = mode === "linear"
    ? (t: number) => Math.max(1 - Math.abs(t), 0)
    : cubic(cubic_coeff_a);
  // Shrinking with antialias widens the kernel to cover all of the input.
  const stretch = antialias ? Math.min(scale, 1) : 1;
  const support = (mode === "linear" ? 1 : 2) / stretch;
  const taps: [number, number][] = [];
  for (let at = Math.ceil(x - support); at <= Math.floor(x + support); at++) {
    if (exclude_outside && (at < 0 || at >= length)) continue;
    taps.push([at, kernel((at - x) * stretch)]);
  }
  return taps;
}

function nearest(x: number, rounding: string): number {
  switch (rounding) {
    case "floor":
      return Math.floor(x);
    case "ceil":
      return Math.ceil(x);
    case "round_prefer_ceil":
      return Math.floor(x + 0.5);
    default:
      return Math.ceil(x - 0.5);
  }
}

/** Keys' cubic convolution kernel. */
function cubic(a: number): (t: number) => number {
  return (t) => {
    const d = Math.abs(t);
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
  };
}
