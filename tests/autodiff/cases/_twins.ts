import { type Builder, type Shape, sizeOf, type Value } from "../../../autodiff/mod.ts";

/** erf by its power series, exact to float64 rounding for |x| < 2. */
export function erfSeries(b: Builder, x: Value): Value {
  const coefficients: number[] = [];
  for (let n = 0, term = 1; n < 45; n++, term *= -1 / n) coefficients.push(term / (2 * n + 1));
  const square = b.mul(x, x);
  const sum = coefficients.reduceRight(
    (acc, c) => b.add(b.mul(acc, square), c),
    b.scalar(0, x.dtype),
  );
  return b.mul(b.mul(x, sum), 2 / Math.sqrt(Math.PI));
}

/** atan by halving its angle, atan x = 2 atan(x / (1 + √(1 + x²))), then its power series. */
export function atanSeries(b: Builder, x: Value): Value {
  const half = (v: Value) => b.div(v, b.add(b.sqrt(b.add(b.mul(v, v), 1)), 1));
  const small = half(half(half(x)));
  const square = b.mul(small, small);
  const sum = Array.from({ length: 18 }, (_, n) => (n % 2 === 0 ? 1 : -1) / (2 * n + 1))
    .reduceRight((acc, c) => b.add(b.mul(acc, square), c), b.scalar(0, x.dtype));
  return b.mul(b.mul(small, sum), 8);
}

/** log(1 + eˣ). */
export const softplus = (b: Builder, x: Value): Value => b.log(b.add(b.exp(x), 1));

/** `above` where x > at, `below` elsewhere. */
export const bend = (b: Builder, x: Value, at: number, above: Value, below: Value): Value =>
  b.where(b.greater(x, at), above, below);

/** Geometry of windows over the spatial axes of [N, C, ...]. */
export interface Geometry {
  readonly kernel: Shape;
  readonly strides?: Shape;
  readonly dilations?: Shape;
  /** Begins then ends; negative ones cut. */
  readonly pads?: Shape;
}

/** Every window of x written out by indexing: [N, C, windows, entries]; with the windows' number along each axis. */
export function windows(
  b: Builder,
  x: Value,
  { kernel, strides, dilations, pads }: Geometry,
): { readonly entries: Value; readonly out: Shape } {
  const n = kernel.length;
  const at = (list: Shape | undefined, i: number, fallback: number) => list?.[i] ?? fallback;
  const padded = b.pad(x, {
    pads: [0, 0, ...kernel.map((_, i) => at(pads, i, 0)), 0, 0].concat(
      kernel.map((_, i) => at(pads, i + n, 0)),
    ),
  });
  const spatial = padded.shape.slice(2);
  const out = spatial.map((size, i) =>
    Math.floor((size - (at(kernel, i, 1) - 1) * at(dilations, i, 1) - 1) / at(strides, i, 1)) + 1
  );
  const indices = cells(out).flatMap((o) =>
    cells(kernel).map((k) =>
      spatial.reduce(
        (index, size, i) =>
          index * size + at(o, i, 0) * at(strides, i, 1) + at(k, i, 0) * at(dilations, i, 1),
        0,
      )
    )
  );
  const [batch = 1, channels = 1] = x.shape;
  const flat = b.reshape(padded, [batch, channels, sizeOf(spatial)]);
  const entries = b.reshape(b.gather(flat, b.ints(indices), 2), [
    batch,
    channels,
    sizeOf(out),
    sizeOf(kernel),
  ]);
  return { entries, out };
}

/** Coordinates of all cells of a box, row by row. */
function cells(shape: Shape): Shape[] {
  return shape.reduce<Shape[]>(
    (found, size) => found.flatMap((c) => Array.from({ length: size }, (_, i) => [...c, i])),
    [[]],
  );
}

/** Convolution as indexing and products of matrices. */
export function conv(
  b: Builder,
  x: Value,
  w: Value,
  options: Omit<Geometry, "kernel"> & { readonly group?: number; readonly bias?: Value } = {},
): Value {
  const { group = 1, bias, ...geometry } = options;
  const [outputs = 1, width = 1, ...kernel] = w.shape;
  const [batch = 1] = x.shape;
  const { entries, out } = windows(b, x, { kernel, ...geometry });
  const [count, size] = [sizeOf(out), width * sizeOf(kernel)];
  const columns = b.reshape(
    b.transpose(b.reshape(entries, [batch, group, width, count, sizeOf(kernel)]), [0, 1, 2, 4, 3]),
    [batch, group, size, count],
  );
  const y = b.reshape(b.matMul(b.reshape(w, [group, outputs / group, size]), columns), [
    batch,
    outputs,
    ...out,
  ]);
  return bias === undefined ? y : b.add(y, b.reshape(bias, [outputs, ...out.map(() => 1)]));
}

/** Transposed convolution as a convolution of x spread out with zeros. */
export function convTranspose(
  b: Builder,
  x: Value,
  w: Value,
  options: Omit<Geometry, "kernel"> & {
    readonly group?: number;
    readonly bias?: Value;
    readonly extra?: Shape;
  } = {},
): Value {
  const { group = 1, bias, strides, dilations, pads, extra } = options;
  const [inputs = 1, width = 1, ...kernel] = w.shape;
  const n = kernel.length;
  const spread = kernel.reduce((v, _, i) => insertZeros(b, v, i + 2, strides?.[i] ?? 1), x);
  const reach = kernel.map((k, i) => (k - 1) * (dilations?.[i] ?? 1));
  const split = b.reshape(w, [group, inputs / group, width, ...kernel]);
  const swapped = b.reshape(
    b.transpose(split, [0, 2, 1, ...kernel.map((_, i) => i + 3)]),
    [group * width, inputs / group, ...kernel],
  );
  const flipped = kernel.reduce(
    (v, k, i) => b.gather(v, b.ints(Array.from({ length: k }, (_, j) => k - 1 - j)), i + 2),
    swapped,
  );
  return conv(b, spread, flipped, {
    group,
    dilations: dilations ?? kernel.map(() => 1),
    pads: [
      ...reach.map((r, i) => r - (pads?.[i] ?? 0)),
      ...reach.map((r, i) => r - (pads?.[i + n] ?? 0) + (extra?.[i] ?? 0)),
    ],
    ...(bias === undefined ? {} : { bias }),
  });
}

function insertZeros(b: Builder, x: Value, axis: number, stride: number): Value {
  const size = x.shape[axis] ?? 1;
  const matrix = new Float64Array(size * ((size - 1) * stride + 1));
  for (let i = 0; i < size; i++) matrix[i * ((size - 1) * stride + 1) + i * stride] = 1;
  return along(b, x, axis, { matrix, size: (size - 1) * stride + 1 });
}

/** Each line of x along an axis times a matrix [entries, size]. */
export function along(
  b: Builder,
  x: Value,
  axis: number,
  { matrix, size }: { readonly matrix: ArrayLike<number>; readonly size: number },
): Value {
  const last = x.shape.length - 1;
  const perm = x.shape.map((_, i) => i === axis ? last : i === last ? axis : i);
  const map = b.table(matrix, { dtype: x.dtype, shape: [x.shape[axis] ?? 1, size] });
  return b.transpose(b.matMul(b.transpose(x, perm), map), perm);
}
