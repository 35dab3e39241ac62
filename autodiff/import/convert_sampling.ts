import { floatOf, intOf, stringOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { constantInts } from "../infer/_types.ts";
import { attributesOf, dim, windowOf } from "../infer/mod.ts";
import { sizeOf } from "../tensor.ts";
import { type Conversions, type ForeignNode, given } from "./_node.ts";
import { cubicTaps, linearTaps, sampleTaps, type Tap } from "./_sample.ts";

/** x [N, C, ...] at the places of a grid [N, ..., n], whose last axis has coordinates in [-1, 1], the last axis's first. */
function gridSample(b: Builder, node: ForeignNode): Value {
  const [x, grid] = [given(node, 0), given(node, 1)];
  const [batch = 1, channels = 1, ...spatial] = x.shape;
  const places = grid.shape.slice(1, -1);
  const n = spatial.length;
  if (grid.shape.length !== n + 2 || dim(grid.shape, -1) !== n || dim(grid.shape, 0) !== batch) {
    throw new ImportError(`Grid [${grid.shape}] does not fit [${x.shape}]`);
  }
  const isAligned = intOf(node.attributes, "align_corners", 0) === 1;
  const padding = stringOf(node.attributes, "padding_mode", "zeros");
  const mode = stringOf(node.attributes, "mode", "linear").replace(/^bi/, "");
  if (!["zeros", "border", "reflection"].includes(padding)) {
    throw new ImportError(`Attribute padding_mode is "${padding}", which is unknown`);
  }
  const flat = b.cast(b.reshape(grid, [batch, sizeOf(places), n]), x.dtype);
  const taps = spatial.map((size, axis): readonly Tap[] => {
    const at = b.squeeze(b.slice(flat, { axis: 2, start: n - 1 - axis, end: n - axis }), [2]);
    const coordinate = isAligned
      ? b.mul(b.add(at, 1), (size - 1) / 2)
      : b.sub(b.mul(b.add(at, 1), size / 2), 0.5);
    const into = (v: Value) => within(b, v, { size, padding, isAligned });
    switch (mode) {
      case "linear":
        return linearTaps(b, into(coordinate));
      case "nearest":
        return [{ index: b.round(into(coordinate)) }];
      case "cubic":
        return cubicTaps(b, coordinate).map((tap) => ({ ...tap, index: into(tap.index) }));
      default:
        throw new ImportError(`Attribute mode is "${mode}", expected linear, nearest or cubic`);
    }
  });
  const y = sampleTaps(b, x, taps, padding === "zeros" ? "zeros" : "edge");
  return b.reshape(b.transpose(y, [0, 2, 1]), [batch, channels, ...places]);
}

/** Coordinates outside of an axis brought into it: to its edge, or reflected there as often as it takes. */
function within(
  b: Builder,
  v: Value,
  { size, padding, isAligned }: {
    readonly size: number;
    readonly padding: string;
    readonly isAligned: boolean;
  },
): Value {
  if (padding === "zeros") return v;
  const clamped = (x: Value) => b.min(b.max(x, 0), size - 1);
  if (padding === "border") return clamped(v);
  const [low, span] = isAligned ? [0, size - 1] : [-0.5, size];
  if (span === 0) return b.mul(v, 0);
  const apart = b.abs(b.sub(v, low));
  const flips = b.call("Floor", [b.div(apart, span)]);
  const rest = b.sub(apart, b.mul(flips, span));
  const isOdd = b.greater(b.sub(flips, b.mul(b.call("Floor", [b.mul(flips, 0.5)]), 2)), 0.5);
  return clamped(b.add(b.where(isOdd, b.sub(span, rest), rest), low));
}

/** A convolution whose kernel's entries are read from x at places moved by offsets, and weighted by a mask. */
function deformConv(b: Builder, node: ForeignNode): Value {
  const [x, w, offset] = [given(node, 0), given(node, 1), given(node, 2)];
  const [, , , bias, mask] = node.inputs;
  const [batch = 1, channels = 1, ...spatial] = x.shape;
  const [out = 1, width = 1, ...kernel] = w.shape;
  const [height = 1, wide = 1] = offset.shape.slice(2);
  if (spatial.length !== 2) throw new ImportError(`Input is [${x.shape}], expected [N, C, H, W]`);
  const own = attributesOf("Conv", node.attributes);
  const window = windowOf(own, kernel, spatial);
  const [group, parts] = [own.group, intOf(node.attributes, "offset_group", 1)];
  const [taps, places] = [sizeOf(kernel), height * wide];
  const moved = b.reshape(offset, [batch * parts, taps, 2, places]);
  const coordinates = [0, 1].map((axis) => {
    const base = Float64Array.from({ length: taps * places }, (_, i) => {
      const [tap, place] = [Math.floor(i / places), i % places];
      const [k, o] = axis === 0
        ? [Math.floor(tap / dim(kernel, 1)), Math.floor(place / wide)]
        : [tap % dim(kernel, 1), place % wide];
      return o * dim(window.strides, axis) - dim(window.pads, axis) +
        k * dim(window.dilations, axis);
    });
    const by = b.squeeze(b.slice(moved, { axis: 2, start: axis, end: axis + 1 }), [2]);
    const at = b.add(by, b.table(base, { dtype: x.dtype, shape: [1, taps, places] }));
    return b.reshape(at, [batch * parts, taps * places]);
  });
  const split = b.reshape(x, [batch * parts, channels / parts, ...spatial]);
  const sampled = sampleTaps(b, split, coordinates.map((v) => linearTaps(b, v)), "zeros");
  const weighted = mask === undefined
    ? sampled
    : b.mul(sampled, b.reshape(mask, [batch * parts, taps * places, 1]));
  const columns = b.reshape(b.transpose(weighted, [0, 2, 1]), [
    batch,
    group,
    width * taps,
    places,
  ]);
  const y = b.reshape(b.matMul(b.reshape(w, [group, out / group, width * taps]), columns), [
    batch,
    out,
    height,
    wide,
  ]);
  return bias === undefined ? y : b.add(y, b.reshape(bias, [out, 1, 1]));
}

/** Means over samples in each cell of a grid over boxes [R, 4] of pictures x [N, C, H, W]. */
function roiAlign(b: Builder, node: ForeignNode): Value {
  const [x, rois, of] = [given(node, 0), given(node, 1), given(node, 2)];
  const { attributes } = node;
  const [, channels = 1, ...spatial] = x.shape;
  const count = dim(rois.shape, 0);
  if (stringOf(attributes, "mode", "avg") !== "avg") {
    throw new ImportError("RoiAlign with mode max is not supported, expected avg");
  }
  const scale = floatOf(attributes, "spatial_scale", 1);
  const form = node.version < 16 ? "output_half_pixel" : "half_pixel";
  const isHalf = stringOf(attributes, "coordinate_transformation_mode", form) === "half_pixel";
  const cells = [intOf(attributes, "output_height", 1), intOf(attributes, "output_width", 1)];
  const scaled = b.sub(b.mul(rois, scale), isHalf ? 0.5 : 0);
  const column = (i: number) => b.slice(scaled, { axis: 1, start: i, end: i + 1 });
  const samples = samplesOf(node, { scale, cells });
  const taps = spatial.map((size, axis): readonly Tap[] => {
    const [start, end] = [column(1 - axis), column(3 - axis)];
    const length = isHalf ? b.sub(end, start) : b.max(b.sub(end, start), 1);
    const steps = dim(cells, axis) * dim(samples, axis);
    // Coordinates of all cells' samples along this axis, at every place of the grid.
    const total = sizeOf(cells) * sizeOf(samples);
    const lines = dim(cells, 1) * dim(samples, 1);
    const shares = Float64Array.from(
      { length: total },
      (_, p) => ((axis === 0 ? Math.floor(p / lines) : p % lines) + 0.5) / steps,
    );
    const at = b.add(b.mul(length, b.table(shares, { dtype: x.dtype, shape: [1, total] })), start);
    const inside = b.and(b.greaterOrEqual(at, -1), b.greaterOrEqual(size, at));
    const clamped = b.min(b.max(at, 0), size - 1);
    const none = b.scalar(0, x.dtype);
    return linearTaps(b, clamped).map(({ index, weight }) => ({
      index,
      weight: b.where(inside, weight ?? none, none),
    }));
  });
  const pictures = b.gather(x, b.cast(of, "int64"));
  const y = b.reshape(sampleTaps(b, pictures, taps, "edge"), [
    count,
    dim(cells, 0),
    dim(samples, 0),
    dim(cells, 1),
    dim(samples, 1),
    channels,
  ]);
  return b.transpose(b.mean(y, { axes: [2, 4], keepDims: false }), [0, 3, 1, 2]);
}

/** Samples of each cell along each axis; where the model leaves that to the boxes, these must be known and alike. */
function samplesOf(
  node: ForeignNode,
  { scale, cells }: { readonly scale: number; readonly cells: readonly number[] },
): readonly number[] {
  const ratio = intOf(node.attributes, "sampling_ratio", 0);
  if (ratio > 0) return [ratio, ratio];
  const boxes = constantOf(node.inputs[1]);
  const found = cells.map((cell, axis) => {
    const all = Array.from({ length: dim(given(node, 1).shape, 0) }, (_, r) => {
      const edge = (i: number) => Number(boxes?.data[4 * r + i] ?? NaN) * scale;
      return Math.ceil((edge(3 - axis) - edge(1 - axis)) / cell);
    });
    return new Set(all).size === 1 ? Math.max(all[0] ?? NaN, 1) : NaN;
  });
  if (found.some(Number.isNaN)) {
    throw new ImportError("RoiAlign needs sampling_ratio, since its boxes are not known or differ");
  }
  return found;
}

/** Coordinates in [-1, 1] of all places of a picture or volume, through affine maps theta [N, n, n + 1]. */
function affineGrid(b: Builder, node: ForeignNode): Value {
  const theta = given(node, 0);
  const [batch = 1, , ...spatial] = constantInts(node.inputs[1], "Size") ?? [];
  const aligned = intOf(node.attributes, "align_corners", 0) === 1;
  const coordinate = (at: number, size: number) =>
    aligned ? (size > 1 ? 2 * at / (size - 1) - 1 : 0) : (2 * at + 1) / size - 1;
  const places = sizeOf(spatial);
  const width = spatial.length + 1;
  const base = new Float64Array(places * width);
  for (let p = 0; p < places; p++) {
    let rest = p;
    // x, the last axis, comes first.
    for (let axis = spatial.length - 1; axis >= 0; axis--) {
      const size = dim(spatial, axis);
      base[p * width + spatial.length - 1 - axis] = coordinate(rest % size, size);
      rest = Math.floor(rest / size);
    }
    base[p * width + width - 1] = 1;
  }
  const table = b.table(base, { dtype: theta.dtype, shape: [1, places, width] });
  const grid = b.fusedMatMul(b.expand(table, [batch, places, width]), theta, { transB: true });
  return b.reshape(grid, [batch, ...spatial, spatial.length]);
}

/** Operators that read pictures at computed places. */
export const SAMPLING: Conversions = {
  AffineGrid: affineGrid,
  DeformConv: deformConv,
  GridSample: gridSample,
  RoiAlign: roiAlign,
};
