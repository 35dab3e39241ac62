import { intOf, intsOf, stringOf } from "../attributes.ts";
import type { Shape } from "../tensor.ts";
import {
  broadcast,
  dim,
  type Infer,
  type InferContext,
  required,
  requiredFloat,
  sameDType,
  type,
} from "./_types.ts";

const matMul: Infer = (c) => {
  const a = required(c, 0);
  const b = required(c, 1);
  sameDType(a, b);
  if (a.shape.length === 0 || b.shape.length === 0) throw new Error("MatMul needs rank 1 or more");
  const left: Shape = a.shape.length === 1 ? [1, ...a.shape] : a.shape;
  const right: Shape = b.shape.length === 1 ? [...b.shape, 1] : b.shape;
  if (dim(left, -1) !== dim(right, -2)) {
    throw new Error(`Inner dimensions differ: ${dim(left, -1)} and ${dim(right, -2)}`);
  }
  const batch = broadcast(left.slice(0, -2), right.slice(0, -2));
  const rows = a.shape.length === 1 ? [] : [dim(left, -2)];
  const columns = b.shape.length === 1 ? [] : [dim(right, -1)];
  return [type(a.dtype, [...batch, ...rows, ...columns])];
};

/** MatMul with either operand's last two dimensions swapped and a factor; com.microsoft. */
const fusedMatMul: Infer = (c) => {
  const a = requiredFloat(c, 0);
  const b = requiredFloat(c, 1);
  sameDType(a, b);
  if (a.shape.length < 2 || b.shape.length < 2) throw new Error("FusedMatMul needs rank 2 or more");
  const swap = (s: Shape, on: number): Shape =>
    on === 1 ? [...s.slice(0, -2), dim(s, -1), dim(s, -2)] : s;
  const left = swap(a.shape, intOf(c.attributes, "transA", 0));
  const right = swap(b.shape, intOf(c.attributes, "transB", 0));
  if (dim(left, -1) !== dim(right, -2)) {
    throw new Error(`Inner dimensions differ: ${dim(left, -1)} and ${dim(right, -2)}`);
  }
  const batch = broadcast(left.slice(0, -2), right.slice(0, -2));
  return [type(a.dtype, [...batch, dim(left, -2), dim(right, -1)])];
};

const gemm: Infer = (c) => {
  const a = required(c, 0);
  const b = required(c, 1);
  sameDType(a, b);
  if (a.shape.length !== 2 || b.shape.length !== 2) throw new Error("Gemm needs two matrices");
  const transA = intOf(c.attributes, "transA", 0) === 1;
  const transB = intOf(c.attributes, "transB", 0) === 1;
  const [m, k] = transA ? [dim(a.shape, 1), dim(a.shape, 0)] : [dim(a.shape, 0), dim(a.shape, 1)];
  const [k2, n] = transB ? [dim(b.shape, 1), dim(b.shape, 0)] : [dim(b.shape, 0), dim(b.shape, 1)];
  if (k !== k2) throw new Error(`Inner dimensions differ: ${k} and ${k2}`);
  const bias = c.inputs[2];
  if (bias !== undefined && broadcast([m, n], bias.shape).join() !== `${m},${n}`) {
    throw new Error(`Bias [${bias.shape}] does not broadcast to [${m}, ${n}]`);
  }
  return [type(a.dtype, [m, n])];
};

/** Geometry of a window operator (convolution, pooling), as ONNX defines it. */
export interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Begin then end padding of each spatial axis. */
  readonly pads: readonly number[];
}

/** Reads a window's geometry; `spatial` are the input's dimensions after N and C. */
export function windowOf(
  c: Pick<InferContext, "attributes">,
  kernel: Shape,
  spatial: Shape,
): Window {
  const n = spatial.length;
  const ones = spatial.map(() => 1);
  const strides = intsOf(c.attributes, "strides") ?? ones;
  const dilations = intsOf(c.attributes, "dilations") ?? ones;
  const auto = stringOf(c.attributes, "auto_pad", "NOTSET");
  let pads = intsOf(c.attributes, "pads") ?? [...ones, ...ones].map(() => 0);
  if (auto === "SAME_UPPER" || auto === "SAME_LOWER") {
    const begin: number[] = [];
    const end: number[] = [];
    for (let i = 0; i < n; i++) {
      const size = dim(spatial, i);
      const reach = (dim(kernel, i) - 1) * dim(dilations, i) + 1;
      const total = Math.max(
        (Math.ceil(size / dim(strides, i)) - 1) * dim(strides, i) + reach - size,
        0,
      );
      const small = Math.floor(total / 2);
      begin.push(auto === "SAME_UPPER" ? small : total - small);
      end.push(auto === "SAME_UPPER" ? total - small : small);
    }
    pads = [...begin, ...end];
  } else if (auto !== "NOTSET" && auto !== "VALID") {
    throw new Error(`auto_pad "${auto}" is not known`);
  }
  if (strides.length !== n || dilations.length !== n || pads.length !== 2 * n) {
    throw new Error(
      `Strides [${strides}], dilations [${dilations}] or pads [${pads}] do not fit ${n} axes`,
    );
  }
  return { kernel, strides, dilations, pads };
}

/** Spatial output size of a window. */
export function windowOutput(w: Window, spatial: Shape, ceil: boolean): Shape {
  return spatial.map((size, i) => {
    const reach = (dim(w.kernel, i) - 1) * dim(w.dilations, i) + 1;
    const room = size + dim(w.pads, i) + dim(w.pads, i + spatial.length) - reach;
    const steps = (ceil ? Math.ceil : Math.floor)(room / dim(w.strides, i)) + 1;
    // A window that would start in the end padding is dropped, as in PyTorch and ONNX.
    const last = (steps - 1) * dim(w.strides, i) >= size + dim(w.pads, i);
    const out = ceil && last ? steps - 1 : steps;
    if (out < 1) {
      throw new Error(`Window [${w.kernel}] is larger than the padded input [${spatial}]`);
    }
    return out;
  });
}

const conv: Infer = (c) => {
  const x = requiredFloat(c, 0);
  const w = requiredFloat(c, 1);
  sameDType(x, w);
  if (x.shape.length < 3 || w.shape.length !== x.shape.length) {
    throw new Error(`Ranks ${x.shape.length} and ${w.shape.length} do not fit a convolution`);
  }
  const group = intOf(c.attributes, "group", 1);
  if (dim(x.shape, 1) !== dim(w.shape, 1) * group || dim(w.shape, 0) % group !== 0) {
    throw new Error(
      `Input has ${dim(x.shape, 1)} channels, the kernel [${w.shape}] with group ${group} needs ${
        dim(w.shape, 1) * group
      }`,
    );
  }
  const bias = c.inputs[2];
  if (bias !== undefined && bias.shape.join() !== String(dim(w.shape, 0))) {
    throw new Error(`Bias [${bias.shape}] does not fit ${dim(w.shape, 0)} output channels`);
  }
  const spatial = x.shape.slice(2);
  const window = windowOf(c, w.shape.slice(2), spatial);
  return [
    type(x.dtype, [dim(x.shape, 0), dim(w.shape, 0), ...windowOutput(window, spatial, false)]),
  ];
};

const convTranspose: Infer = (c) => {
  const x = requiredFloat(c, 0);
  const w = requiredFloat(c, 1);
  sameDType(x, w);
  if (x.shape.length < 3 || w.shape.length !== x.shape.length) {
    throw new Error(`Ranks ${x.shape.length} and ${w.shape.length} do not fit a convolution`);
  }
  if (dim(x.shape, 1) !== dim(w.shape, 0)) {
    throw new Error(
      `Input has ${dim(x.shape, 1)} channels, the kernel [${w.shape}] needs ${dim(w.shape, 0)}`,
    );
  }
  if (
    stringOf(c.attributes, "auto_pad", "NOTSET") !== "NOTSET" ||
    intsOf(c.attributes, "output_shape")
  ) {
    throw new Error("ConvTranspose with auto_pad or output_shape is not supported; give pads");
  }
  const spatial = x.shape.slice(2);
  const n = spatial.length;
  const { strides, dilations, pads } = windowOf(c, w.shape.slice(2), spatial);
  const extra = intsOf(c.attributes, "output_padding") ?? spatial.map(() => 0);
  const group = intOf(c.attributes, "group", 1);
  const out = spatial.map((size, i) =>
    (size - 1) * dim(strides, i) + dim(extra, i) + (dim(w.shape, i + 2) - 1) * dim(dilations, i) +
    1 -
    dim(pads, i) - dim(pads, i + n)
  );
  return [type(x.dtype, [dim(x.shape, 0), dim(w.shape, 1) * group, ...out])];
};

const pool: Infer = (c) => {
  const x = requiredFloat(c, 0);
  const kernel = intsOf(c.attributes, "kernel_shape");
  if (kernel === undefined) throw new Error("Attribute kernel_shape is missing");
  const spatial = x.shape.slice(2);
  const window = windowOf(c, kernel, spatial);
  const ceil = intOf(c.attributes, "ceil_mode", 0) === 1;
  const shape = [...x.shape.slice(0, 2), ...windowOutput(window, spatial, ceil)];
  return [type(x.dtype, shape), type("int64", shape)];
};

const globalPool: Infer = (c) => {
  const x = requiredFloat(c, 0);
  return [type(x.dtype, x.shape.map((d, i) => i < 2 ? d : 1))];
};

/**
 * Scaled dot-product attention, softmax(q kᵀ · scale) v, of q [B, N, H·D], k and v [B, M, H·D] with attribute
 * `num_heads` = H and an optional additive mask broadcastable to [B, H, N, M].
 */
const attention: Infer = (c) => {
  const [q, k, v] = [requiredFloat(c, 0), requiredFloat(c, 1), requiredFloat(c, 2)];
  const heads = intOf(c.attributes, "num_heads", 0);
  if (q.shape.length !== 3 || k.shape.length !== 3 || k.shape.join() !== v.shape.join()) {
    throw new Error("Attention needs q [B, N, C] and k, v of one shape [B, M, C]");
  }
  if (dim(q.shape, 0) !== dim(k.shape, 0) || dim(q.shape, 2) !== dim(k.shape, 2)) {
    throw new Error(`q [${q.shape}] and k [${k.shape}] differ in batch or width`);
  }
  if (heads < 1 || dim(q.shape, 2) % heads !== 0) {
    throw new Error(`Width ${dim(q.shape, 2)} is not a multiple of num_heads ${heads}`);
  }
  const mask = c.inputs[3];
  if (mask !== undefined) {
    const full = [dim(q.shape, 0), heads, dim(q.shape, 1), dim(k.shape, 1)];
    if (broadcast(full, mask.shape).join() !== full.join()) {
      throw new Error(`Mask [${mask.shape}] does not broadcast to [${full}]`);
    }
  }
  return [type(q.dtype, q.shape)];
};

/** Contractions and windows. */
export const LINEAR = {
  MatMul: matMul,
  FusedMatMul: fusedMatMul,
  Gemm: gemm,
  Conv: conv,
  ConvTranspose: convTranspose,
  AveragePool: pool,
  MaxPool: pool,
  GlobalAveragePool: globalPool,
  GlobalMaxPool: globalPool,
  Attention: attention,
} satisfies Record<string, Infer>;
