import {
  type Attributes,
  int,
  ints,
  type OpName,
  type Shape,
  string,
} from "../../../autodiff/mod.ts";
import { type OpCase, opCase } from "./_case.ts";
import { conv, convTranspose, type Geometry, windows } from "./_twins.ts";

type Options = Omit<Geometry, "kernel"> & { readonly group?: number };

const attributesOf = ({ strides, dilations, pads, group }: Options): Attributes => ({
  ...(strides && { strides: ints(strides) }),
  ...(dilations && { dilations: ints(dilations) }),
  ...(pads && { pads: ints(pads) }),
  ...(group !== undefined && { group: int(group) }),
});

/** A convolution with bias. */
const convCase = (x: Shape, w: Shape, options: Options = {}) =>
  opCase(
    { x, w, bias: [w[0] ?? 1] },
    (b, { x, w, bias }) => b.call("Conv", [x, w, bias], attributesOf(options)),
    { twin: (b, { x, w, bias }) => conv(b, x, w, { ...options, bias }) },
  );

/** A convolution padded by the operator itself, and the same pads written out. */
const autoPadded = (auto: string, strides: Shape, pads: Shape) =>
  opCase(
    { x: [1, 2, 6, 7], w: [3, 2, 3, 2] },
    (b, { x, w }) => b.call("Conv", [x, w], { auto_pad: string(auto), strides: ints(strides) }),
    { twin: (b, { x, w }) => conv(b, x, w, { strides, pads }) },
  );

const transposed = (x: Shape, w: Shape, options: Options & { readonly extra?: Shape } = {}) =>
  opCase(
    { x, w, bias: [(w[1] ?? 1) * (options.group ?? 1)] },
    (b, { x, w, bias }) =>
      b.call("ConvTranspose", [x, w, bias], {
        ...attributesOf(options),
        ...(options.extra && { output_padding: ints(options.extra) }),
      }),
    { twin: (b, { x, w, bias }) => convTranspose(b, x, w, { ...options, bias }) },
  );

interface Pool extends Geometry {
  readonly ceil?: boolean;
  readonly countPad?: boolean;
  /** End padding that only ceil mode adds: entries there never count. */
  readonly overhang?: Shape;
}

const poolAttributes = ({ kernel, ceil, countPad, ...options }: Pool): Attributes => ({
  kernel_shape: ints(kernel),
  ...attributesOf(options),
  ...(ceil && { ceil_mode: int(1) }),
  ...(countPad && { count_include_pad: int(1) }),
});

const averagePool = (x: Shape, pool: Pool) =>
  opCase(
    { x },
    (b, { x }) => b.call("AveragePool", [x], poolAttributes(pool)),
    {
      twin: (b, { x }) => {
        const { kernel, pads = [...kernel, ...kernel].map(() => 0), overhang } = pool;
        const n = kernel.length;
        const beyond = kernel.map((_, i) => overhang?.[i] ?? 0);
        const counted = b.fill(1, { dtype: x.dtype, shape: x.shape });
        const spread = [0, 0, ...pads.slice(0, n), 0, 0, ...pads.slice(n)];
        // What is averaged: x and, where it counts, the padding; never what lies beyond.
        const weight = pool.countPad
          ? b.fill(1, { dtype: x.dtype, shape: b.pad(x, { pads: spread }).shape })
          : b.pad(counted, { pads: spread });
        const end = { ...pool, pads: [...beyond.map(() => 0), ...beyond] };
        const sum = windows(b, b.pad(x, { pads: spread }), end);
        const count = windows(b, weight, end);
        const mean = b.div(b.sum(sum.entries, { axes: [3] }), b.sum(count.entries, { axes: [3] }));
        return b.reshape(mean, [...x.shape.slice(0, 2), ...sum.out]);
      },
    },
  );

const maxPool = (x: Shape, pool: Pool) =>
  opCase(
    { x: { shape: x, spacing: 0.2 } },
    (b, { x }) => b.call("MaxPool", [x], poolAttributes(pool)),
  );

const globalPool = (op: OpName, shape: Shape, max: boolean) =>
  opCase(
    { x: { shape, ...(max && { spacing: 0.2 }) } },
    (b, { x }) => b.call(op, [x]),
    {
      twin: (b, { x }) => {
        const axes = shape.flatMap((_, i) => i < 2 ? [] : [i]);
        return max ? b.maxOf(x, { axes }) : b.mean(x, { axes });
      },
    },
  );

/** Cases of convolutions and pools. */
export const WINDOW_CASES = {
  Conv: {
    "3x3, padded": convCase([2, 3, 5, 4], [4, 3, 3, 3], { pads: [1, 1, 1, 1] }),
    "3x3, not padded": convCase([1, 2, 5, 4], [3, 2, 3, 3]),
    "1x1": convCase([2, 3, 4, 3], [5, 3, 1, 1]),
    "1x1, stride 2": convCase([1, 3, 5, 4], [2, 3, 1, 1], { strides: [2, 2] }),
    "pads differ on every side": convCase([1, 2, 5, 4], [3, 2, 3, 4], { pads: [0, 1, 2, 3] }),
    "pads beyond the kernel": convCase([1, 2, 4, 4], [3, 2, 2, 2], { pads: [3, 0, 0, 2] }),
    "stride 2": convCase([1, 2, 6, 7], [3, 2, 3, 3], { strides: [2, 2], pads: [1, 1, 1, 1] }),
    "stride 2, padded at the end": convCase([1, 2, 6, 6], [3, 2, 3, 3], {
      strides: [2, 2],
      pads: [0, 0, 1, 1],
    }),
    "strides differ, rows left over": convCase([1, 2, 8, 9], [2, 2, 2, 3], { strides: [3, 4] }),
    "dilations": convCase([1, 2, 7, 8], [2, 2, 3, 2], {
      dilations: [2, 3],
      pads: [1, 0, 2, 1],
    }),
    "dilations and strides": convCase([1, 2, 9, 8], [2, 2, 3, 2], {
      dilations: [2, 3],
      strides: [2, 3],
      pads: [1, 0, 2, 1],
    }),
    "groups": convCase([2, 4, 5, 4], [6, 2, 3, 3], { group: 2, pads: [1, 1, 1, 1] }),
    "groups and stride": convCase([1, 4, 6, 5], [6, 2, 3, 3], { group: 2, strides: [2, 2] }),
    "depthwise": convCase([1, 3, 5, 4], [3, 1, 3, 3], { group: 3, pads: [1, 1, 1, 1] }),
    "patches": convCase([2, 3, 6, 4], [5, 3, 3, 2], { strides: [3, 2] }),
    "patches, rows left over": convCase([2, 3, 7, 5], [5, 3, 3, 2], { strides: [3, 2] }),
    "one axis": convCase([2, 3, 7], [4, 3, 3], { pads: [1, 2] }),
    "one axis, stride 2": convCase([2, 3, 8], [4, 3, 3], { strides: [2] }),
    "three axes": convCase([1, 2, 4, 3, 5], [2, 2, 2, 2, 3], { pads: [1, 0, 1, 0, 1, 1] }),
    "no bias": opCase(
      { x: [1, 2, 4, 4], w: [2, 2, 3, 3] },
      (b, { x, w }) => b.conv2d(x, w, { padding: 1 }),
      { twin: (b, { x, w }) => conv(b, x, w, { pads: [1, 1, 1, 1] }) },
    ),
    "same, upper": autoPadded("SAME_UPPER", [1, 1], [1, 0, 1, 1]),
    "same, lower": autoPadded("SAME_LOWER", [1, 1], [1, 1, 1, 0]),
    "same, upper, stride 2": autoPadded("SAME_UPPER", [2, 2], [0, 0, 1, 1]),
    "valid": autoPadded("VALID", [2, 1], [0, 0, 0, 0]),
  },
  ConvTranspose: {
    "plain": transposed([2, 3, 4, 3], [3, 2, 3, 3]),
    "stride 2": transposed([1, 3, 4, 3], [3, 2, 4, 4], { strides: [2, 2], pads: [1, 1, 1, 1] }),
    "output padding": transposed([1, 2, 4, 3], [2, 2, 3, 3], {
      strides: [2, 2],
      pads: [1, 1, 1, 1],
      extra: [1, 1],
    }),
    "pads differ": transposed([1, 2, 5, 5], [2, 3, 3, 4], { strides: [1, 2], pads: [0, 1, 2, 1] }),
    "dilations": transposed([1, 2, 4, 4], [2, 2, 3, 2], { dilations: [2, 2], pads: [1, 0, 1, 1] }),
    "groups": transposed([1, 4, 4, 3], [4, 3, 3, 3], { group: 2, strides: [2, 1] }),
    "one axis": transposed([2, 3, 5], [3, 2, 4], { strides: [2], pads: [1, 1] }),
  },
  AveragePool: {
    "2x2": averagePool([2, 3, 4, 6], { kernel: [2, 2], strides: [2, 2] }),
    "overlapping": averagePool([1, 2, 5, 6], { kernel: [3, 2] }),
    "padding does not count": averagePool([1, 2, 5, 5], {
      kernel: [3, 3],
      strides: [2, 2],
      pads: [1, 1, 1, 1],
    }),
    "padding counts": averagePool([1, 2, 5, 5], {
      kernel: [3, 3],
      strides: [2, 2],
      pads: [1, 1, 1, 1],
      countPad: true,
    }),
    "pads differ": averagePool([1, 2, 5, 5], { kernel: [3, 3], pads: [0, 1, 2, 1] }),
    "ceil": averagePool([1, 2, 6, 6], {
      kernel: [3, 3],
      strides: [2, 2],
      ceil: true,
      overhang: [1, 1],
    }),
    "ceil, padding counts": averagePool([1, 2, 6, 6], {
      kernel: [3, 3],
      strides: [2, 2],
      pads: [1, 1, 0, 0],
      ceil: true,
      countPad: true,
      overhang: [0, 0],
    }),
    // pytorch/pytorch#183528: the last window reaches beyond the padding, which is no part of the mean.
    "ceil, padding counts, but not what is beyond": averagePool([1, 1, 4, 4], {
      kernel: [3, 3],
      strides: [2, 2],
      pads: [1, 1, 1, 1],
      ceil: true,
      countPad: true,
      overhang: [1, 1],
    }),
    "dilations": averagePool([1, 2, 7, 7], { kernel: [2, 3], dilations: [3, 2] }),
    "rows left over": averagePool([1, 2, 7, 5], { kernel: [2, 2], strides: [2, 2] }),
    "one axis": averagePool([2, 3, 7], { kernel: [3], strides: [2] }),
  },
  MaxPool: {
    "2x2": maxPool([2, 3, 4, 6], { kernel: [2, 2], strides: [2, 2] }),
    "overlapping": maxPool([1, 2, 5, 6], { kernel: [3, 2] }),
    "padded": maxPool([2, 2, 5, 5], { kernel: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
    "ceil": maxPool([1, 2, 6, 6], { kernel: [3, 3], strides: [2, 2], ceil: true }),
    "dilations": maxPool([1, 2, 7, 7], { kernel: [2, 3], dilations: [3, 2] }),
    "one axis": maxPool([2, 3, 7], { kernel: [3], strides: [2] }),
    "three axes": maxPool([1, 2, 4, 3, 4], { kernel: [2, 2, 2], strides: [2, 1, 2] }),
  },
  GlobalAveragePool: {
    "one axis": globalPool("GlobalAveragePool", [2, 3, 5], false),
    "two axes": globalPool("GlobalAveragePool", [2, 3, 4, 5], false),
  },
  GlobalMaxPool: {
    "one axis": globalPool("GlobalMaxPool", [2, 3, 5], true),
    "two axes": globalPool("GlobalMaxPool", [2, 3, 4, 5], true),
  },
} satisfies Record<string, Record<string, OpCase>>;
