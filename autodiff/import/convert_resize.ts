import { floatOf, string } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { constantOf } from "../constant_of.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { type ResizeAxis, resizeMatrix } from "../infer/_resize.ts";
import { constantInts } from "../infer/_types.ts";
import { attributesOf, dim, normalizeAxis } from "../infer/mod.ts";
import { sizeOf } from "../tensor.ts";
import { keep, without } from "./_keep.ts";
import { type Conversion, type Conversions, type ForeignNode, given } from "./_node.ts";

/** An input that says something: empty scales, sizes and regions are left out. */
function filled(v: Value | undefined): Value | undefined {
  return v !== undefined && sizeOf(v.shape) > 0 ? v : undefined;
}

const resize: Conversion = (b, node) => {
  if (node.version < 11) return legacy(b, node, numbers(node.inputs[1], "Scales"));
  const [x, roi, scales, sizes] = node.inputs;
  const { keep_aspect_ratio_policy: policy, coordinate_transformation_mode: coordinates } =
    attributesOf("Resize", node.attributes);
  if (coordinates === "tf_crop_and_resize") return crop(b, node, numbers(filled(roi), "Region"));
  if (policy !== "stretch" && filled(sizes) !== undefined) return fitted(b, node, policy);
  return {
    ...keep({ ...node, attributes: without(node.attributes, "keep_aspect_ratio_policy") }),
    inputs: [x, undefined, filled(scales), filled(sizes)],
  };
};

function numbers(v: Value | undefined, what: string): readonly number[] {
  const tensor = constantOf(v);
  if (tensor === undefined || tensor.dtype === "float16" || tensor.dtype === "bfloat16") {
    throw new ImportError(`${what} must be a constant of float32`);
  }
  return Array.from(tensor.data, Number);
}

/** Axes that scales, sizes and regions are of. */
function axesOf(node: ForeignNode): readonly number[] {
  const { shape } = given(node, 0);
  return attributesOf("Resize", node.attributes).axes?.map((a) => normalizeAxis(a, shape.length)) ??
    shape.map((_, i) => i);
}

/** Opset 10's Resize and Upsample: coordinates o / scale, rounded down where nearest, or up where that makes smaller. */
function legacy(b: Builder, node: ForeignNode, scales: readonly number[]): Value {
  const x = given(node, 0);
  const { mode } = attributesOf("Resize", node.attributes);
  const apply = (v: Value, chosen: readonly number[], rounding: string) =>
    chosen.every((s) => s === 1) ? v : b.call("Resize", [
      v,
      undefined,
      b.table(chosen, { dtype: "float32", shape: [chosen.length] }),
    ], {
      mode: string(mode === "bilinear" ? "linear" : mode),
      coordinate_transformation_mode: string("asymmetric"),
      nearest_mode: string(rounding),
    });
  if (mode !== "nearest") return apply(x, scales, "floor");
  const smaller = apply(x, scales.map((s) => s < 1 ? s : 1), "ceil");
  return apply(smaller, scales.map((s) => s < 1 ? 1 : s), "floor");
}

/** The largest or smallest size of x's proportions that lies within, or covers, the given one. */
function fitted(b: Builder, node: ForeignNode, policy: string): Value {
  const x = given(node, 0);
  const axes = axesOf(node);
  const wanted = constantInts(node.inputs[3], "Sizes") ?? [];
  const ratios = axes.map((axis, i) => dim(wanted, i) / dim(x.shape, axis));
  if (policy !== "not_larger" && policy !== "not_smaller") {
    throw new ImportError(`Attribute keep_aspect_ratio_policy is "${policy}", which is unknown`);
  }
  const scale = Math.fround(
    policy === "not_larger" ? Math.min(...ratios) : Math.max(...ratios),
  );
  return byMatrices(b, node, (length) => ({
    length,
    size: Math.floor(Math.fround(scale * length) + 0.5),
    scale,
  }));
}

/** Every chosen axis of x by the matrix of its own linear map. */
function byMatrices(b: Builder, node: ForeignNode, axisOf: (length: number) => ResizeAxis): Value {
  const x = given(node, 0);
  const c = { inputs: node.inputs, attributes: attributesOf("Resize", node.attributes) };
  return axesOf(node).reduce((v, axis) => {
    const resized = axisOf(dim(x.shape, axis));
    const { length, size, scale } = resized;
    if (length === size && scale === 1) return v;
    return mapAxis(b, v, { axis, size, matrix: resizeMatrix(c, resized) });
  }, x);
}

/** Regions of x, in shares of its sizes less one, stretched; outside of x is a constant. */
function crop(b: Builder, node: ForeignNode, region: readonly number[]): Value {
  const x = given(node, 0);
  const axes = axesOf(node);
  const sizes = constantInts(filled(node.inputs[3]), "Sizes");
  const scales = sizes === undefined ? numbers(filled(node.inputs[2]), "Scales") : undefined;
  if (region.length !== 2 * axes.length) {
    throw new ImportError(`Region has ${region.length} entries, expected ${2 * axes.length}`);
  }
  const c = { inputs: node.inputs, attributes: attributesOf("Resize", node.attributes) };
  let [y, inside] = [x, b.fill(1, { dtype: x.dtype, shape: x.shape.map(() => 1) })];
  for (const [i, axis] of axes.entries()) {
    const [start, end] = [dim(region, i), dim(region, i + axes.length)];
    const length = dim(x.shape, axis);
    const size = sizes === undefined
      ? Math.floor(length * (end - start) * dim(scales ?? [], i))
      : dim(sizes, i);
    const source = (o: number) =>
      size > 1
        ? start * (length - 1) + o * (end - start) * (length - 1) / (size - 1)
        : 0.5 * (start + end) * (length - 1);
    const isInside = Float64Array.from(
      { length: size },
      (_, o) => source(o) >= 0 && source(o) <= length - 1 ? 1 : 0,
    );
    const axisOf = { length, size, scale: size / (length * (end - start)) };
    const matrix = resizeMatrix(c, axisOf, source).map((w, k) =>
      w * (isInside[Math.floor(k / length)] ?? 0)
    );
    y = mapAxis(b, y, { axis, size, matrix });
    const shape = x.shape.map((_, k) => k === axis ? size : 1);
    inside = b.mul(inside, b.table(isInside, { dtype: x.dtype, shape }));
  }
  const beyond = floatOf(node.attributes, "extrapolation_value", 0);
  return beyond === 0 ? y : b.add(y, b.mul(b.sub(1, inside), beyond));
}

/** Each line of x along an axis by a matrix [size, entries]. */
export function mapAxis(
  b: Builder,
  x: Value,
  { axis, size, matrix }: {
    readonly axis: number;
    readonly size: number;
    readonly matrix: Float64Array;
  },
): Value {
  const length = dim(x.shape, axis);
  const map = b.table(matrix, { dtype: x.dtype, shape: [size, length] });
  const tail = sizeOf(x.shape.slice(axis + 1));
  const lines = b.reshape(x, [sizeOf(x.shape.slice(0, axis)), length, tail]);
  return b.reshape(b.matMul(map, lines), x.shape.map((d, i) => i === axis ? size : d));
}

/** Operators that enlarge and shrink. */
export const RESIZES: Conversions = {
  Resize: resize,
  Upsample: (b, node) =>
    legacy(b, node, node.lists.floats["scales"] ?? numbers(node.inputs[1], "Scales")),
};
