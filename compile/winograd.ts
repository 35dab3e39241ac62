import { type AttributeValues, dim, windowOf } from "../autodiff/infer/mod.ts";
import { type Builder, int, ints, sizeOf, type Value } from "../autodiff/mod.ts";
import type { LoweringContext } from "./_lowering.ts";

/** Rows of output in a tile, which takes `TAPS` less one more of input. */
const TILE = 4;
const TAPS = 3;
const IMAGES = TILE + TAPS - 1;

/**
 * Where the polynomials are multiplied, besides infinity. They are exact in binary, and with them rounding errors are
 * two thirds of those with the usual 0, ±1, ±2.
 */
const POINTS = [0, 3 / 4, -3 / 4, 3 / 2, -3 / 2] as const;

/**
 * F(4, 3): y = Aᵀ((G g) ∘ (Bᵀ d)) for four outputs y of a filter g of three taps over six inputs d, in six
 * multiplications instead of twelve (Lavin & Gray, "Fast algorithms for convolutional neural networks"; the matrices are
 * those of Toom and Cook for the points above). Each a row for each image.
 */
const INPUT = [...POINTS.map((_, i) => [...polynomial(without(i)), 0]), polynomial(POINTS)];
const KERNEL = [
  ...POINTS.map((p, i) => {
    const scale = without(i).reduce((product, other) => product * (p - other), 1);
    return range(TAPS).map((k) => p ** k / scale);
  }),
  range(TAPS).map((k) => k === TAPS - 1 ? 1 : 0),
];
const OUTPUT = range(TILE).map((k) => [...POINTS.map((p) => p ** k), k === TILE - 1 ? 1 : 0]);

/** What, added to the products of each image, adds 1 to every output: the values at 1 of polynomials 1 at one point. */
const ONE = [
  0,
  ...POINTS.slice(1).map((p, i) =>
    POINTS.slice(1).reduce((value, q, j) => i === j ? value : value * (1 - q) / (p - q), 1)
  ),
  0,
];

/** Coefficients of Π (t - root), the constant first. */
function polynomial(roots: readonly number[]): readonly number[] {
  return roots.reduce(
    (c: readonly number[], root) => [...c, 0].map((_, k) => (c[k - 1] ?? 0) - root * (c[k] ?? 0)),
    [1],
  );
}

function without(i: number): readonly number[] {
  return POINTS.filter((_, j) => j !== i);
}

/**
 * Columns times rows of tiles computed at once: the images of 512 channels stay in a third-level cache, and products of
 * matrices are wide enough.
 */
const BLOCK = 512;

/** What the transforms cost at each position and channel, read or made, in multiplications of the convolution itself. */
const TRANSFORM = 150;

/** A convolution's operands. */
export interface ConvOperands {
  readonly x: Value;
  readonly w: Value;
  readonly bias?: Value | undefined;
}

/** What is made of a `Conv` by `winogradRows`; "kernel" where the policy, its shape or its cost are against it. */
export function winogradConv(
  b: Builder,
  [x, w, bias]: readonly (Value | undefined)[],
  { attributes, policy, isTurned = false }: LoweringContext<AttributeValues["Conv"]> & {
    /** The taps of `w` are to be turned round. */
    readonly isTurned?: boolean;
  },
): Value | "kernel" {
  // Its transforms multiply what float16 rounds.
  if (policy.precision === "float16") return "kernel";
  if (x === undefined || w === undefined || x.shape.length !== 4) return "kernel";
  const { kernel, strides, dilations, pads } = windowOf(
    attributes,
    w.shape.slice(2),
    x.shape.slice(2),
  );
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const out = dim(w.shape, 0);
  const fits = kernel.every((k) => k === TAPS) && attributes.group === 1 &&
    [...strides, ...dilations].every((n) => n === 1) && height >= TILE && channels % 2 === 0;
  // Half of 9 multiplications for each pair of channels is spared.
  const spared = TAPS ** 2 / 2 * channels * out;
  const isWorth = batch * height * width >= policy.winograd &&
    spared > TRANSFORM * (channels + out);
  return fits && isWorth ? winogradRows(b, { x, w, bias }, { pads, isTurned }) : "kernel";
}

/**
 * The convolution of x [B, C, H, W] with 3x3 kernels w [O, C, 3, 3] by Winograd's algorithm along columns alone: rows of
 * x are combined to those of six images, each of which is convolved with 1x3 kernels, and rows of the results to rows of
 * the result. `pads` are top, left, bottom, right; C is even. Blocks of rows are computed one after the other, so that
 * nothing but the kernels, twice their size, exists whole beside x and the result.
 */
export function winogradRows(
  b: Builder,
  { x, w, bias }: ConvOperands,
  { pads, block = BLOCK, isTurned = false }: {
    readonly pads: readonly number[];
    readonly block?: number;
    readonly isTurned?: boolean;
  },
): Value {
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const [top = 0, left = 0, bottom = 0, right = 0] = pads;
  const out = dim(w.shape, 0);
  const rowsOut = height + top + bottom - TAPS + 1;
  const columns = width + left + right - TAPS + 1;
  const allTiles = Math.ceil(rowsOut / TILE);
  const count = Math.ceil(allTiles / Math.max(1, Math.round(block / columns)));
  const tiles = Math.ceil(allTiles / count);
  const blocks = Array.from({ length: count }, (_, i) => i * tiles * TILE - top);
  const rows = tiles * TILE + TAPS - 1;

  const kernels = transformKernels(b, w, isTurned);
  const biases = bias &&
    b.reshape(b.mul(b.table(ONE, { dtype: x.dtype, shape: [IMAGES, 1] }), bias), [IMAGES * out]);
  // Rows outside of x are read from its border and count nothing.
  const indices = blocks.flatMap((start) =>
    range(rows).map((r) => Math.min(Math.max(start + r, 0), height - 1))
  );
  const factors = blocks.flatMap((start) =>
    combinations(tiles, (r) => start + r >= 0 && start + r < height)
  );
  const one = (b: Builder, rowsOfBlock: Value, combine: Value): Value => {
    const read = b.gather(x, rowsOfBlock, 2);
    const combined = b.reshape(b.matMul(combine, read), [batch, channels, IMAGES, tiles * width]);
    const images = b.reshape(b.transpose(combined, [0, 2, 1, 3]), [
      batch,
      IMAGES * channels,
      tiles,
      width,
    ]);
    const products = convolveImages(b, { x: images, w: kernels, bias: biases }, { left, right });
    const results = b.matMul(
      b.table(OUTPUT.flat(), { dtype: x.dtype, shape: [TILE, IMAGES] }),
      b.reshape(products, [batch, IMAGES, out * tiles * columns]),
    );
    return b.transpose(b.reshape(results, [batch, TILE, out, tiles, columns]), [0, 2, 3, 1, 4]);
  };
  const indexRows = b.reshape(b.ints(indices), [count, rows]);
  const combineRows = b.table(factors, { dtype: x.dtype, shape: [count, IMAGES * tiles, rows] });
  const [made] = count === 1
    ? [one(b, b.reshape(indexRows, [rows]), b.reshape(combineRows, combineRows.shape.slice(1)))]
    : b.scan({ rows: [indexRows, combineRows] }, (b, { rows: [index, combine] }) => {
      if (index === undefined || combine === undefined) throw new RangeError("A block has no rows");
      return { rows: [one(b, index, combine)] };
    });
  if (made === undefined) throw new RangeError("A convolution has no result");
  const strips = b.reshape(made, [count, batch, out, tiles * TILE * columns]);
  const full = count * tiles * TILE;
  const y = b.reshape(b.transpose(strips, [1, 2, 0, 3]), [batch, out, full, columns]);
  return full === rowsOut ? y : b.slice(y, { axis: 2, start: 0, end: rowsOut });
}

/** Convolves each of the images, [B, 6·C, rows, width], with its 1x3 kernels, [6·O, C, 1, 3]. */
function convolveImages(
  b: Builder,
  { x, w, bias }: ConvOperands,
  { left, right }: { readonly left: number; readonly right: number },
): Value {
  if (x.dtype !== "float64") {
    return b.call("Conv", bias === undefined ? [x, w] : [x, w, bias], {
      kernel_shape: ints([1, TAPS]),
      pads: ints([0, left, 0, right]),
      group: int(IMAGES),
    });
  }
  // The runtime has no such kernel, and gradients are checked in float64: products, tap by tap.
  const [batch = 1, , rows = 1, width = 1] = x.shape;
  const [many, channels] = [dim(w.shape, 0), dim(w.shape, 1)];
  const columns = width + left + right - TAPS + 1;
  const wide = b.pad(x, { pads: [0, 0, 0, left, 0, 0, 0, right] });
  const taps = range(TAPS).map((k) => {
    const kernel = b.slice(w, { axis: 3, start: k, end: k + 1 });
    const read = b.slice(wide, { axis: 3, start: k, end: k + columns });
    return b.matMul(
      b.reshape(kernel, [1, IMAGES, many / IMAGES, channels]),
      b.reshape(read, [batch, IMAGES, channels, rows * columns]),
    );
  });
  const y = b.reshape(b.total(taps), [batch, many, rows, columns]);
  return bias === undefined ? y : b.add(y, b.reshape(bias, [many, 1, 1]));
}

/**
 * G g for each column of w's kernels, [6·O, C, 1, 3], which are turned round first if asked for. Two kernels make a row of
 * the product, which is quicker.
 */
function transformKernels(b: Builder, w: Value, isTurned: boolean): Value {
  const [out = 1, channels = 1] = w.shape;
  const taps = TAPS ** 2;
  const table = KERNEL.flatMap((factors) =>
    range(2 * taps).flatMap((from) =>
      range(2 * TAPS).map((to) => {
        const tap = isTurned ? taps - 1 - from % taps : from % taps;
        const isSame = Math.floor(from / taps) === Math.floor(to / TAPS) &&
          tap % TAPS === to % TAPS;
        return isSame ? factors[Math.floor(tap / TAPS)] ?? 0 : 0;
      })
    )
  );
  const pairs = b.reshape(w, [1, sizeOf([out, channels]) / 2, 2 * taps]);
  const shape = [IMAGES, 2 * taps, 2 * TAPS];
  const transformed = b.matMul(pairs, b.table(table, { dtype: w.dtype, shape }));
  return b.reshape(transformed, [IMAGES * out, channels, 1, TAPS]);
}

/** [6 · tiles, rows]: how rows of input make those of each point's image. `isInside` says whether there is such a row. */
function combinations(tiles: number, isInside: (row: number) => boolean): readonly number[] {
  const rows = range(tiles * TILE + TAPS - 1);
  return INPUT.flatMap((factors) =>
    range(tiles).flatMap((t) => rows.map((r) => isInside(r) ? factors[r - t * TILE] ?? 0 : 0))
  );
}

function range(n: number): readonly number[] {
  return Array.from({ length: n }, (_, i) => i);
}
