import { int, ints } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import type { Value } from "../graph.ts";
import { type AttributeValues, dim, reach, type Window, windowOf } from "../infer/mod.ts";
import { type Shape, sizeOf } from "../tensor.ts";
import { cotangent, input, output, type Rule, type Rules, unary } from "./_types.ts";
import { sumPerChannel } from "./norm.ts";
import { extremum } from "./reduce.ts";

const all = (values: readonly number[], n: number) => values.every((v) => v === n);

const spatialOf = (x: Value): Shape => x.shape.slice(2);

const attributesOf = ({ kernel, strides, dilations, pads }: Window, group: number) => ({
  kernel_shape: ints(kernel),
  strides: ints(strides),
  dilations: ints(dilations),
  pads: ints(pads),
  group: int(group),
});

/** What maps gradients of a convolution's output to its input. */
interface Adjoint {
  readonly w: Value;
  /** Shape of the input. */
  readonly x: Shape;
  readonly window: Window;
  readonly group: number;
}

/** The adjoint of a convolution applied to dy. */
function convInput(b: Builder, dy: Value, { w, x, window, group }: Adjoint): Value {
  const { kernel, strides, dilations, pads } = window;
  const n = kernel.length;
  const whole = kernel.every((k, i) => k === strides[i] && dim(x, i + 2) % k === 0);
  const isPatches = whole && !all(strides, 1) && all(pads, 0) && all(dilations, 1);
  if (group === 1 && n === 2 && isPatches) return untile(b, dy, w);
  const extra = kernel.map((_, i) =>
    dim(x, i + 2) + dim(pads, i) + dim(pads, i + n) - reach(window, i) - 1 -
    (dim(dy.shape, i + 2) - 1) * dim(strides, i)
  );
  return b.call("ConvTranspose", [dy, w], {
    ...attributesOf(window, group),
    output_padding: ints(extra),
  });
}

/** Patches that do not overlap (a vision transformer's embedding): one product and a rearrangement. */
function untile(b: Builder, dy: Value, w: Value): Value {
  const [batch = 1, out = 1, rows = 1, columns = 1] = dy.shape;
  const [, channels = 1, height = 1, width = 1] = w.shape;
  const tokens = b.reshape(b.transpose(dy, [0, 2, 3, 1]), [batch * rows * columns, out]);
  const patches = b.reshape(b.gemm(tokens, b.reshape(w, [out, channels * height * width])), [
    batch,
    rows,
    columns,
    channels,
    height,
    width,
  ]);
  return b.reshape(
    b.transpose(patches, [0, 3, 1, 4, 2, 5]),
    [batch, channels, rows * height, columns * width],
  );
}

/** d result / d w: the correlation of x with dy, where batch and channels, stride and dilation change places. */
function convKernel(b: Builder, dy: Value, { w, x, window, group }: Omit<Adjoint, "x"> & {
  readonly x: Value;
}): Value {
  const { kernel, strides, dilations } = window;
  const swap = [1, 0, ...kernel.map((_, i) => i + 2)];
  const swapped = { ...window, kernel: spatialOf(dy), strides: dilations, dilations: strides };
  const parts = Array.from({ length: group }, (_, g) => {
    const part = (v: Value) => {
      const size = dim(v.shape, 1) / group;
      const chosen = b.slice(v, { axis: 1, start: g * size, end: (g + 1) * size });
      return b.transpose(group === 1 ? v : chosen, swap);
    };
    const full = b.call("Conv", [part(x), part(dy)], attributesOf(swapped, 1));
    // Rows of x that no output read make the result larger than the kernel.
    return b.transpose(crop(b, full, kernel), swap);
  });
  return b.reshape(b.concat(parts, 0), w.shape);
}

/** x without what lies beyond `size` on its spatial axes. */
function crop(b: Builder, x: Value, size: Shape): Value {
  return size.reduce(
    (v, n, i) => dim(v.shape, i + 2) > n ? b.slice(v, { axis: i + 2, start: 0, end: n }) : v,
    x,
  );
}

const conv: Rule<AttributeValues["Conv"]> = (c) => {
  const { b } = c;
  const [x, w, dy] = [input(c, 0), input(c, 1), cotangent(c)];
  const { group } = c.attributes;
  const window = windowOf(c.attributes, w.shape.slice(2), spatialOf(x));
  return [
    c.wants[0] ? convInput(b, dy, { w, x: x.shape, window, group }) : undefined,
    c.wants[1] ? convKernel(b, dy, { w, x, window, group }) : undefined,
    c.wants[2] ? sumPerChannel(b, dy) : undefined,
  ];
};

/** A transposed convolution is the adjoint of a convolution: its input gradient is that convolution. */
const convTranspose: Rule<AttributeValues["ConvTranspose"]> = (c) => {
  const { b } = c;
  const [x, w, dy] = [input(c, 0), input(c, 1), cotangent(c)];
  const { group } = c.attributes;
  const window = windowOf(c.attributes, w.shape.slice(2), spatialOf(x));
  return [
    c.wants[0]
      ? crop(b, b.call("Conv", [dy, w], attributesOf(window, group)), spatialOf(x))
      : undefined,
    c.wants[1] ? convKernel(b, x, { w, x: dy, window, group }) : undefined,
    c.wants[2] ? sumPerChannel(b, dy) : undefined,
  ];
};

/** Spreads each output's gradient over its window: the adjoint of a depthwise convolution with ones. */
const averagePool: Rule<AttributeValues["AveragePool"]> = unary((b, dy, x, _y, c) => {
  const { kernel_shape: kernel, count_include_pad: includePad } = c.attributes;
  const n = kernel.length;
  const window = windowOf(c.attributes, kernel, spatialOf(x));
  const counts = windowCounts(window, { x: spatialOf(x), y: spatialOf(dy), includePad });
  const full = sizeOf(kernel);
  const share = all(counts, full)
    ? b.mul(dy, 1 / full)
    : b.div(dy, b.table(counts, { dtype: x.dtype, shape: [1, 1, ...spatialOf(dy)] }));
  // With ceil_mode the last window may reach beyond the padding.
  const end = kernel.map((_, i) => {
    const last = (dim(dy.shape, i + 2) - 1) * dim(window.strides, i) + reach(window, i) + 1;
    const given = dim(window.pads, i + n);
    return Math.max(given, last - dim(window.pads, i) - dim(x.shape, i + 2));
  });
  const channels = dim(x.shape, 1);
  return convInput(b, share, {
    w: b.fill(1, { dtype: x.dtype, shape: [channels, 1, ...kernel] }),
    x: x.shape,
    window: { ...window, pads: [...window.pads.slice(0, n), ...end] },
    group: channels,
  });
});

/** How many entries each window averages: those of x, and those of the padding where it counts. */
function windowCounts(
  w: Window,
  { x, y, includePad }: { readonly x: Shape; readonly y: Shape; readonly includePad: boolean },
): number[] {
  const along = (i: number, o: number) => {
    const low = includePad ? -dim(w.pads, i) : 0;
    const high = dim(x, i) + (includePad ? dim(w.pads, i + x.length) : 0);
    const start = o * dim(w.strides, i) - dim(w.pads, i);
    const entries = Array.from(
      { length: dim(w.kernel, i) },
      (_, k) => start + k * dim(w.dilations, i),
    );
    return entries.filter((at) => at >= low && at < high).length;
  };
  return y.reduce(
    (counts, size, i) =>
      counts.flatMap((n) => Array.from({ length: size }, (_, o) => n * along(i, o))),
    [1],
  );
}

/** Each maximum's gradient goes to where it came from, which the operator's second output says. */
const maxPool: Rule = unary((b, dy, x, _y, c) => {
  const flat = (v: Value) => b.reshape(v, [sizeOf(v.shape)]);
  const zero = b.expand(b.scalar(0, x.dtype), [sizeOf(x.shape)]);
  return b.reshape(b.scatterAdd(zero, flat(output(c, 1)), flat(dy)), x.shape);
});

/** Rules of convolutions and pools. */
export const WINDOW_RULES = {
  Conv: conv,
  ConvTranspose: convTranspose,
  AveragePool: averagePool,
  MaxPool: maxPool,
  GlobalAveragePool: unary((b, dy, x) => b.mul(dy, 1 / sizeOf(spatialOf(x)))),
  GlobalMaxPool: unary((b, dy, x, y) => {
    const axes = x.shape.flatMap((_, i) => i < 2 ? [] : [i]);
    return extremum(b, dy, x, y, { axes, count: sizeOf(spatialOf(x)) });
  }),
} satisfies Rules;
