import type { AttributeReader } from "../attributes.ts";
import type { ValueType } from "../value_type.ts";
import type { Shape } from "../tensor.ts";
import { plain, spec } from "./_spec.ts";
import {
  dim,
  type Infer,
  type InferContext,
  required,
  requiredFloat,
  sameDType,
  type,
} from "./_types.ts";

/** Geometry of a window operator (convolution, pooling), as ONNX defines it. */
export interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Begin then end padding of each spatial axis. */
  readonly pads: readonly number[];
}

const geometry = (r: AttributeReader) => ({
  auto_pad: r.string("auto_pad", "NOTSET"),
  dilations: r.optionalInts("dilations"),
  pads: r.optionalInts("pads"),
  strides: r.optionalInts("strides"),
});

/** How a window operator says its geometry, kernel aside: strides and dilations are 1 and pads 0 where left out. */
export type WindowAttributes = ReturnType<typeof geometry>;

const convAttributes = (r: AttributeReader) => ({
  ...geometry(r),
  kernel_shape: r.optionalInts("kernel_shape"),
  group: r.int("group", 1),
});

const poolAttributes = (r: AttributeReader) => ({
  ...geometry(r),
  kernel_shape: r.ints("kernel_shape"),
  ceil_mode: r.flag("ceil_mode", false),
});

/** Entries of input a window covers along axis `i`, less one: (kernel - 1) · dilation. */
export function reach(w: Window, i: number): number {
  return (dim(w.kernel, i) - 1) * dim(w.dilations, i);
}

/** Reads a window's geometry; `spatial` are the input's dimensions after N and C. */
export function windowOf(attributes: WindowAttributes, kernel: Shape, spatial: Shape): Window {
  const n = spatial.length;
  const fill = (value: number, count: number) => Array.from({ length: count }, () => value);
  const strides = attributes.strides ?? fill(1, n);
  const dilations = attributes.dilations ?? fill(1, n);
  const given = attributes.pads ?? fill(0, 2 * n);
  if (
    kernel.length !== n || strides.length !== n || dilations.length !== n || given.length !== 2 * n
  ) {
    throw new Error(
      `Kernel [${kernel}], strides [${strides}], dilations [${dilations}] or pads [${given}] ` +
        `do not fit ${n} axes`,
    );
  }
  if ([...kernel, ...strides, ...dilations].some((v) => v < 1) || given.some((v) => v < 0)) {
    throw new Error(
      `Kernel [${kernel}], strides [${strides}] and dilations [${dilations}] must be 1 or more, ` +
        `pads [${given}] 0 or more`,
    );
  }
  const window = { kernel, strides, dilations, pads: given };
  const auto = attributes.auto_pad;
  if (auto === "NOTSET") return window;
  if (auto === "VALID") return { ...window, pads: fill(0, 2 * n) };
  if (auto !== "SAME_UPPER" && auto !== "SAME_LOWER") {
    throw new Error(`auto_pad "${auto}" is unknown`);
  }
  const totals = spatial.map((size, i) => {
    const moves = Math.ceil(size / dim(strides, i)) - 1;
    return Math.max(moves * dim(strides, i) + reach(window, i) + 1 - size, 0);
  });
  const small = totals.map((t) => Math.floor(t / 2));
  const large = totals.map((t) => Math.ceil(t / 2));
  return {
    ...window,
    pads: auto === "SAME_UPPER" ? [...small, ...large] : [...large, ...small],
  };
}

function windowOutput(w: Window, spatial: Shape, ceil: boolean): Shape {
  return spatial.map((size, i) => {
    const stride = dim(w.strides, i);
    const padded = size + dim(w.pads, i) + dim(w.pads, i + spatial.length);
    const room = padded - reach(w, i) - 1;
    if (room < 0) {
      throw new Error(`Window [${w.kernel}] is larger than the padded input [${spatial}]`);
    }
    const moves = (ceil ? Math.ceil : Math.floor)(room / stride);
    // A window that would start in the end padding is dropped.
    return moves * stride >= size + dim(w.pads, i) && ceil ? moves : moves + 1;
  });
}

/** Image x [N, C, ...] and kernel of a convolution. */
function operands(
  c: InferContext<ReturnType<typeof convAttributes>>,
): readonly [ValueType, ValueType] {
  const [x, w] = [requiredFloat(c, 0), requiredFloat(c, 1)];
  sameDType(x, w);
  if (x.shape.length < 3 || w.shape.length !== x.shape.length) {
    throw new Error(`Ranks ${x.shape.length} and ${w.shape.length} do not fit a convolution`);
  }
  const declared = c.attributes.kernel_shape;
  if (declared !== undefined && declared.join() !== w.shape.slice(2).join()) {
    throw new Error(`kernel_shape [${declared}] is not that of the kernel [${w.shape}]`);
  }
  return [x, w];
}

function checkBias(c: InferContext, channels: number): void {
  const bias = c.inputs[2];
  if (bias === undefined) return;
  sameDType(required(c, 0), bias);
  if (bias.shape.join() !== String(channels)) {
    throw new Error(`Bias [${bias.shape}] does not fit ${channels} output channels`);
  }
}

const conv = spec(convAttributes, (c) => {
  const [x, w] = operands(c);
  const { group } = c.attributes;
  const [channels, out] = [dim(x.shape, 1), dim(w.shape, 0)];
  if (channels !== dim(w.shape, 1) * group || out % group !== 0) {
    throw new Error(
      `Input has ${channels} channels, the kernel [${w.shape}] with group ${group} needs ${
        dim(w.shape, 1) * group
      }`,
    );
  }
  checkBias(c, out);
  const spatial = x.shape.slice(2);
  const window = windowOf(c.attributes, w.shape.slice(2), spatial);
  return [type(x.dtype, [dim(x.shape, 0), out, ...windowOutput(window, spatial, false)])];
});

const convTranspose = spec((r) => ({
  ...convAttributes(r),
  output_padding: r.optionalInts("output_padding"),
  output_shape: r.optionalInts("output_shape"),
}), (c) => {
  const [x, w] = operands(c);
  const { group } = c.attributes;
  const [channels, out] = [dim(x.shape, 1), dim(w.shape, 1) * group];
  if (channels !== dim(w.shape, 0) || channels % group !== 0) {
    throw new Error(
      `Input has ${channels} channels, the kernel [${w.shape}] with group ${group} needs ${
        dim(w.shape, 0)
      }`,
    );
  }
  checkBias(c, out);
  const { auto_pad, output_padding, output_shape } = c.attributes;
  if (auto_pad !== "NOTSET" || output_shape !== undefined) {
    throw new Error("ConvTranspose with auto_pad or output_shape is not supported; give pads");
  }
  const spatial = x.shape.slice(2);
  const window = windowOf(c.attributes, w.shape.slice(2), spatial);
  const extra = output_padding ?? spatial.map(() => 0);
  const size = spatial.map((n, i) =>
    (n - 1) * dim(window.strides, i) + dim(extra, i) + reach(window, i) + 1 -
    dim(window.pads, i) - dim(window.pads, i + spatial.length)
  );
  if (size.some((n) => n < 1)) throw new Error(`Pads [${window.pads}] leave nothing: [${size}]`);
  return [type(x.dtype, [dim(x.shape, 0), out, ...size])];
});

const pool: Infer<ReturnType<typeof poolAttributes>> = (c) => {
  const x = requiredFloat(c, 0);
  const { kernel_shape, ceil_mode } = c.attributes;
  const spatial = x.shape.slice(2);
  const window = windowOf(c.attributes, kernel_shape, spatial);
  return [type(x.dtype, [...x.shape.slice(0, 2), ...windowOutput(window, spatial, ceil_mode)])];
};

const globalPool = plain((c) => {
  const x = requiredFloat(c, 0);
  if (x.shape.length < 3) throw new Error(`Input is [${x.shape}], expected [N, C, ...]`);
  return [type(x.dtype, x.shape.map((d, i) => i < 2 ? d : 1))];
});

/** Convolutions and pools. */
export const WINDOW = {
  Conv: conv,
  ConvTranspose: convTranspose,
  AveragePool: spec((r) => ({
    ...poolAttributes(r),
    count_include_pad: r.flag("count_include_pad", false),
  }), pool),
  /** Optional output 1: where in x, flattened as a whole, each maximum came from. */
  MaxPool: spec(poolAttributes, (c) => pool(c).flatMap((y) => [y, type("int64", y.shape)])),
  GlobalAveragePool: globalPool,
  GlobalMaxPool: globalPool,
};
