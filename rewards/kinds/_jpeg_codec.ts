import type { Builder, Value } from "../../autodiff/mod.ts";

/** How rounding of coefficients is differentiated: see the JPEG reward. */
export type JpegRounding = "ste" | "cubic" | "constant-target";

/** Options of the codec. */
export interface JpegOptions {
  /** 1 to 100, scaling the tables as libjpeg does; 50 is the tables themselves. */
  readonly quality: number;
  readonly subsampling: "4:2:0" | "4:4:4";
  readonly mode: JpegRounding;
}

/** Quantization tables of the JPEG standard, annex K, row by row. */
const LUMINANCE = [
  ...[16, 11, 10, 16, 24, 40, 51, 61],
  ...[12, 12, 14, 19, 26, 58, 60, 55],
  ...[14, 13, 16, 24, 40, 57, 69, 56],
  ...[14, 17, 22, 29, 51, 87, 80, 62],
  ...[18, 22, 37, 56, 68, 109, 103, 77],
  ...[24, 35, 55, 64, 81, 104, 113, 92],
  ...[49, 64, 78, 87, 103, 121, 120, 101],
  ...[72, 92, 95, 98, 112, 100, 103, 99],
];
const CHROMINANCE = [
  ...[17, 18, 24, 47, 99, 99, 99, 99],
  ...[18, 21, 26, 66, 99, 99, 99, 99],
  ...[24, 26, 56, 99, 99, 99, 99, 99],
  ...[47, 66, 99, 99, 99, 99, 99, 99],
  ...Array.from({ length: 32 }, () => 99),
];

/** libjpeg's scaling of a table by quality. */
export function scaledTable(table: readonly number[], quality: number): number[] {
  const scale = quality < 50 ? Math.trunc(5000 / quality) : 200 - 2 * quality;
  return table.map((q) => Math.min(Math.max(Math.floor((q * scale + 50) / 100), 1), 255));
}

/** The orthonormal 8x8 cosine transform of a block as one [64, 64] matrix: coefficients = M block, both row by row. */
function blockTransform(): Float64Array {
  const basis = (k: number, n: number) =>
    (k === 0 ? Math.sqrt(1 / 8) : 0.5) * Math.cos((2 * n + 1) * k * Math.PI / 16);
  const m = new Float64Array(64 * 64);
  for (let i = 0; i < 64; i++) {
    for (let j = 0; j < 64; j++) {
      m[i * 64 + j] = basis(i >> 3, j >> 3) * basis(i & 7, j & 7);
    }
  }
  return m;
}

/**
 * decode(encode(x)) of x [B, 3, H, W] in [0, 1] without entropy coding, which loses nothing: JFIF colours, chroma
 * averaged over 2x2 and repeated ("4:2:0"), block transform, quantization. Pixels are neither clamped nor rounded;
 * sides are padded by repetition to whole blocks. What the gradient sees of the rounding depends on `mode`.
 */
export function jpegCodec(b: Builder, x: Value, options: JpegOptions): Value {
  const [batch = 1, , height = 1, width = 1] = x.shape;
  const subsample = options.subsampling === "4:2:0";
  const block = subsample ? 16 : 8;
  const [rows, columns] = [roundUp(height, block), roundUp(width, block)];
  const padded = b.pad(b.mul(x, 255), {
    pads: [0, 0, 0, 0, 0, 0, rows - height, columns - width],
    mode: "edge",
  });
  const [red, green, blue] = b.split(padded, [1, 1, 1], 1);
  if (red === undefined || green === undefined || blue === undefined) {
    throw new RangeError("Split has 3 outputs");
  }
  const luma = b.call("Sum", [b.mul(red, 0.299), b.mul(green, 0.587), b.mul(blue, 0.114)]);
  // Chroma without its offset of 128, which the transform's own shift by -128 would take away again.
  const chroma = (v: Value, scale: number) => {
    const full = b.mul(b.sub(v, luma), 1 / scale);
    return subsample ? averagePairs(b, full) : full;
  };
  const restored = (v: Value) => subsample ? b.upsampleNearest(v, 2) : v;
  const merge = ([y, cb, cr]: readonly [Value, Value, Value]) => {
    const r = b.add(y, b.mul(restored(cr), 1.402));
    const bl = b.add(y, b.mul(restored(cb), 1.772));
    const g = b.mul(b.sub(b.sub(y, b.mul(r, 0.299)), b.mul(bl, 0.114)), 1 / 0.587);
    const rgb = b.mul(b.concat([r, g, bl], 1), 1 / 255);
    return rows === height && columns === width ? rgb : crop(b, rgb, [batch, 3, height, width]);
  };
  const planes = [luma, chroma(blue, 1.772), chroma(red, 1.402)] as const;
  const [y, cb, cr] = planes;
  const quantized = merge([
    b.add(quantize(b, b.sub(y, 128), { ...options, table: LUMINANCE }), 128),
    quantize(b, cb, { ...options, table: CHROMINANCE }),
    quantize(b, cr, { ...options, table: CHROMINANCE }),
  ]);
  if (options.mode === "cubic") return quantized;
  if (options.mode === "constant-target") return b.stopGradient(quantized);
  // With the rounding's derivative set to 1 the codec's is that of the linear maps around it, which cancel but for
  // the subsampling: saying so keeps a gradient of zero exactly zero.
  return b.straightThrough(subsample ? merge(planes) : x, quantized);
}

/** The transform of every 8x8 block of v [B, 1, h, w], rounded in units of the table, and back. */
function quantize(
  b: Builder,
  v: Value,
  { table, quality, mode }: JpegOptions & { readonly table: readonly number[] },
): Value {
  const [batch = 1, , h = 1, w = 1] = v.shape;
  const apart = [batch, h / 8, 8, w / 8, 8];
  const swapped = [0, 1, 3, 2, 4];
  const blocks = b.reshape(b.transpose(b.reshape(v, apart), swapped), [batch * h * w / 64, 64]);
  const dtype = v.dtype;
  const transform = b.table(blockTransform(), { dtype, shape: [64, 64] });
  const steps = b.table(scaledTable(table, quality), { dtype, shape: [64] });
  const coefficients = b.div(b.gemm(blocks, transform, { transB: true }), steps);
  const whole = b.round(coefficients);
  const rest = b.sub(coefficients, whole);
  // Shin and Song's surrogate has the derivative 3 (x - round x)².
  const rounded = mode === "cubic" ? b.add(whole, b.mul(rest, b.mul(rest, rest))) : whole;
  const decoded = b.gemm(b.mul(rounded, steps), transform);
  const tiles = b.reshape(decoded, [batch, h / 8, w / 8, 8, 8]);
  return b.reshape(b.transpose(tiles, swapped), [batch, 1, h, w]);
}

function averagePairs(b: Builder, v: Value): Value {
  const [batch = 1, , h = 1, w = 1] = v.shape;
  const pairs = b.reshape(v, [batch, 1, h / 2, 2, w / 2, 2]);
  return b.mean(pairs, { axes: [3, 5], keepDims: false });
}

function crop(b: Builder, v: Value, [, , height = 1, width = 1]: readonly number[]): Value {
  const rows = b.slice(v, { axis: 2, start: 0, end: height });
  return b.slice(rows, { axis: 3, start: 0, end: width });
}

const roundUp = (n: number, step: number) => Math.ceil(n / step) * step;
