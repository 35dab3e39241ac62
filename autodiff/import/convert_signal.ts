import { intOf } from "../attributes.ts";
import type { Builder } from "../builder.ts";
import { ImportError } from "../errors.ts";
import type { Value } from "../graph.ts";
import { constantInts, dim, normalizeAxis } from "../infer/_types.ts";
import type { DType } from "../tensor.ts";
import { type Conversion, type Conversions, type ForeignNode, given } from "./_node.ts";
import { dtypeOf } from "./_read_tensor.ts";

/** Entries of the largest table of a transform. */
const LARGEST_TABLE = 2 ** 24;

/** cos and sin of 2π jk/n as matrices [n, count]. */
function waves(
  b: Builder,
  dtype: DType,
  { n, count }: { readonly n: number; readonly count: number },
): readonly [Value, Value] {
  if (n * count > LARGEST_TABLE) {
    throw new ImportError(`A Fourier transform of ${n} entries is too large to differentiate`);
  }
  const table = (f: (angle: number) => number) =>
    b.table(
      Float64Array.from({ length: n * count }, (_, i) => {
        const turn = (Math.floor(i / count) * (i % count)) % n;
        return f(2 * Math.PI * turn / n);
      }),
      { dtype, shape: [n, count] },
    );
  return [table(Math.cos), table(Math.sin)];
}

/**
 * Discrete Fourier transform along the last axis of a real part and an imaginary one: Σ x e^(-2πi jk/n), the inverse
 * with the other sign over n.
 */
function transform(
  b: Builder,
  [real, imaginary]: readonly [Value, Value | undefined],
  { count, inverse }: { readonly count: number; readonly inverse: boolean },
): readonly [Value, Value] {
  const n = dim(real.shape, -1);
  const [c, s] = waves(b, real.dtype, { n, count });
  const sign = inverse ? 1 : -1;
  const [rc, rs] = [b.matMul(real, c), b.mul(b.matMul(real, s), sign)];
  if (imaginary === undefined) return [rc, rs];
  const [ic, is] = [b.matMul(imaginary, c), b.mul(b.matMul(imaginary, s), sign)];
  const [x, y] = [b.sub(rc, is), b.add(rs, ic)];
  return inverse ? [b.mul(x, 1 / n), b.mul(y, 1 / n)] : [x, y];
}

/** [..., 1] or [..., 2] as real and imaginary part. */
function parts(b: Builder, x: Value): readonly [Value, Value | undefined] {
  const last = x.shape.length - 1;
  const part = (i: number) => b.squeeze(b.slice(x, { axis: last, start: i, end: i + 1 }), [last]);
  return [part(0), dim(x.shape, -1) === 2 ? part(1) : undefined];
}

function complex(b: Builder, [real, imaginary]: readonly [Value, Value]): Value {
  const last = real.shape.length;
  return b.concat([b.unsqueeze(real, [last]), b.unsqueeze(imaginary, [last])], last);
}

const dft: Conversion = (b, node) => {
  const x = given(node, 0);
  const rank = x.shape.length;
  const given17 = intOf(node.attributes, "axis", 1);
  const asked = node.version < 20 ? given17 : constantInts(node.inputs[2], "Axis")?.[0] ?? -2;
  // The last axis is that of real and imaginary parts.
  const axis = normalizeAxis(asked, rank);
  const length = constantInts(node.inputs[1], "Length")?.[0] ?? dim(x.shape, axis);
  const inverse = intOf(node.attributes, "inverse", 0) === 1;
  const isHalf = intOf(node.attributes, "onesided", 0) === 1;
  if (isHalf && inverse) return inverseOfHalf(b, node, { axis, asked: length });
  const sized = resized(b, x, { axis, length });
  const swap = (v: Value) =>
    b.transpose(v, v.shape.map((_, i) => i === axis ? rank - 2 : i === rank - 2 ? axis : i));
  const [real, imaginary] = parts(b, sized);
  const count = isHalf ? Math.floor(length / 2) + 1 : length;
  // The inverse of something real: its imaginary part is 0.
  const other = imaginary === undefined && inverse ? b.mul(real, 0) : imaginary;
  const [y, z] = transform(b, [swap(real), other && swap(other)], { count, inverse });
  return complex(b, [swap(y), swap(z)]);
};

/** Of the first half of a transform of something real, that: the other half are its conjugates. */
function inverseOfHalf(
  b: Builder,
  node: ForeignNode,
  { axis, asked }: { readonly axis: number; readonly asked: number },
): Value {
  const x = given(node, 0);
  const rank = x.shape.length;
  const half = dim(x.shape, axis);
  const n = node.inputs[1] === undefined ? 2 * (half - 1) : asked;
  const swap = (v: Value) =>
    b.transpose(v, v.shape.map((_, i) => i === axis ? rank - 2 : i === rank - 2 ? axis : i));
  const [real, imaginary] = parts(b, resized(b, x, { axis, length: Math.floor(n / 2) + 1 }));
  if (imaginary === undefined) throw new ImportError("Input is real, expected complex");
  const kept = Math.floor(n / 2) + 1;
  const weight = (f: (angle: number) => number) =>
    b.table(
      Float64Array.from({ length: kept * n }, (_, i) => {
        const [k, j] = [Math.floor(i / n), i % n];
        const times = k === 0 || 2 * k === n ? 1 : 2;
        return times * f(2 * Math.PI * ((k * j) % n) / n) / n;
      }),
      { dtype: x.dtype, shape: [kept, n] },
    );
  const y = b.sub(
    b.matMul(swap(real), weight(Math.cos)),
    b.matMul(swap(imaginary), weight(Math.sin)),
  );
  return b.unsqueeze(swap(y), [rank - 1]);
}

/** x cut or filled with zeros to a length along an axis. */
function resized(
  b: Builder,
  x: Value,
  { axis, length }: { readonly axis: number; readonly length: number },
): Value {
  const size = dim(x.shape, axis);
  if (length === size) return x;
  if (length < size) return b.slice(x, { axis, start: 0, end: length });
  const after = x.shape.map((_, i) => i === axis ? length - size : 0);
  return b.pad(x, { pads: [...after.map(() => 0), ...after] });
}

/** Transforms of windows along a signal [B, N, 1 or 2]: [B, windows, frequencies, 2]. */
const stft: Conversion = (b, node) => {
  const x = given(node, 0);
  const step = constantInts(node.inputs[1], "Step")?.[0] ?? 0;
  const window = node.inputs[2];
  const length = constantInts(node.inputs[3], "Length")?.[0] ?? dim(window?.shape ?? [], 0);
  const [, total = 0] = x.shape;
  if (!(step > 0) || length > total) throw new ImportError(`Step is ${step}, length ${length}`);
  const frames = Math.floor((total - length) / step) + 1;
  const at = b.table(
    Float64Array.from(
      { length: frames * length },
      (_, i) => Math.floor(i / length) * step + i % length,
    ),
    { dtype: "int64", shape: [frames, length] },
  );
  const [real, imaginary] = parts(b, x).map((v) => {
    if (v === undefined) return undefined;
    const framed = b.gather(v, at, 1);
    return window === undefined ? framed : b.mul(framed, window);
  });
  if (real === undefined) throw new ImportError("Signal is missing");
  const isHalf = intOf(node.attributes, "onesided", 1) === 1;
  const count = isHalf ? Math.floor(length / 2) + 1 : length;
  return complex(b, transform(b, [real, imaginary], { count, inverse: false }));
};

/** A window function by its coefficients of cosines. */
const window = (coefficients: readonly number[]): Conversion => (b, node) => {
  const size = constantInts(node.inputs[0], "Size")?.[0] ?? 0;
  const over = intOf(node.attributes, "periodic", 1) === 1 ? size : size - 1;
  const dtype = dtypeOf(intOf(node.attributes, "output_datatype", 1), "The window");
  if (!(size <= LARGEST_TABLE)) throw new ImportError(`Size is ${size}`);
  const values = Float64Array.from(
    { length: size },
    (_, i) => coefficients.reduce((sum, c, k) => sum + c * Math.cos(2 * Math.PI * k * i / over), 0),
  );
  return b.table(values, { dtype, shape: [size] });
};

/** Fourier transforms as products with tables of waves, and windows. */
export const SIGNALS: Conversions = {
  BlackmanWindow: window([0.42, -0.5, 0.08]),
  DFT: dft,
  HammingWindow: window([25 / 46, -21 / 46]),
  HannWindow: window([0.5, -0.5]),
  STFT: stft,
};
