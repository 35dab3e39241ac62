import type { AxisFit, PlaneFit } from "./fit.ts";
import { type Resize, resizeTaps } from "./resize_taps.ts";

/** An image in 8 bits, planes first: [3, height, width]. */
export interface Uint8Image {
  readonly height: number;
  readonly width: number;
  readonly data: Uint8Array;
}

/** Whose 8-bit resize is meant; both weigh in fixed point, and round and clip after each axis. */
export type Resizer = "pillow" | "torchvision";

/**
 * The fit as the Python reference processors compute it on decoded PNG and JPEG files. "pillow" weighs with 22
 * fractional bits: bit for bit equal to `resize`, `crop` and `paste` of Pillow 13; earlier versions always resize
 * horizontally first. "torchvision", which transformers 5 calls, takes as many bits as leave a weight 16, which decides
 * halves otherwise: an eighth of the pixels of a bilinear resize from 40 to 32 differ by 1.
 *
 * What is cut away is not computed: a line of 8,192 pixels that is to cover a square of 224 would become one of 1.8
 * million first.
 */
export function fitUint8(
  image: Uint8Image,
  { rows, columns }: PlaneFit,
  resizer: Resizer = "pillow",
): Uint8Image {
  const [down, across] = [partOf(rows), partOf(columns)];
  const horizontal = (x: Uint8Image) => resizeColumns(x, across, resizer);
  const vertical = (x: Uint8Image) => transposed(resizeColumns(transposed(x), down, resizer));
  const read = window(image, { rows: down.read, columns: across.read });
  // Rounding in between makes the order matter. This is Pillow's, found by experiment over 1,500 sizes.
  const rowsFirst = resizer === "pillow" &&
    rows.from - rows.to > Math.max(0, 2 * (columns.from - columns.to));
  const resized = rowsFirst ? horizontal(vertical(read)) : vertical(horizontal(read));
  const [height, width] = [rows.size, columns.size];
  if (resized.height === height && resized.width === width) return resized;
  // In the result, resized sample (y, x) lands at (y - offset, x - offset).
  const [top, left] = [down.kept.from - rows.offset, across.kept.from - columns.offset];
  const data = new Uint8Array(3 * height * width);
  for (let line = 0; line < 3 * resized.height; line++) {
    const [channel, y] = [Math.floor(line / resized.height), line % resized.height];
    const samples = resized.data.subarray(line * resized.width, (line + 1) * resized.width);
    data.set(samples, (channel * height + top + y) * width + left);
  }
  return { height, width, data };
}

/** Samples `from` up to `to`. */
interface Range {
  readonly from: number;
  readonly to: number;
}

/** What of an axis comes into the result. */
interface AxisPart {
  readonly axis: AxisFit;
  /** Resized samples that are not cut away. */
  readonly kept: Range;
  /** Samples of the image that these are made of. */
  readonly read: Range;
}

function partOf(axis: AxisFit): AxisPart {
  const { offset, size } = axis;
  const kept = { from: Math.max(offset, 0), to: Math.min(offset + size, axis.to) };
  if (axis.from === axis.to) return { axis, kept, read: kept };
  const { first } = resizeTaps(kept.from, axis);
  const last = resizeTaps(kept.to - 1, axis);
  return { axis, kept, read: { from: first, to: last.first + last.weights.length } };
}

/** A part of an image; the whole is not copied. */
function window(
  image: Uint8Image,
  { rows, columns }: { readonly rows: Range; readonly columns: Range },
): Uint8Image {
  const [height, width] = [rows.to - rows.from, columns.to - columns.from];
  if (height === image.height && width === image.width) return image;
  const data = new Uint8Array(3 * height * width);
  for (let line = 0; line < 3 * height; line++) {
    const [channel, y] = [Math.floor(line / height), line % height];
    const start = (channel * image.height + rows.from + y) * image.width + columns.from;
    data.set(image.data.subarray(start, start + width), line * width);
  }
  return { height, width, data };
}

const PILLOW_BITS = 32 - 8 - 2;

/** An int16 has this many bits beside its sign. */
const WEIGHT_BITS = 15;

/** Fractional bits that weights of a resize are taken with. */
function fractionalBits(resize: Resize, resizer: Resizer): number {
  if (resizer === "pillow") return PILLOW_BITS;
  let bits = PILLOW_BITS;
  // The largest weight of all samples counts, of those too that are cut away.
  for (let i = 0; i < resize.to; i++) {
    const largest = Math.max(...resizeTaps(i, resize).weights);
    while (bits > 0 && Math.trunc(0.5 + largest * 2 ** bits) >= 2 ** WEIGHT_BITS) bits--;
    // No weight is 2 or more: as many bits are left by any. Where an image grows, the first sample says so already.
    if (bits < WEIGHT_BITS) break;
  }
  return bits;
}

/** Resizes the lines of an image that consists of the columns which the part reads. */
function resizeColumns(
  image: Uint8Image,
  { axis, kept, read }: AxisPart,
  resizer: Resizer,
): Uint8Image {
  if (axis.from === axis.to) return image;
  const bits = fractionalBits(axis, resizer);
  const one = 2 ** bits;
  const lines = 3 * image.height;
  const [from, to] = [image.width, kept.to - kept.from];
  const data = new Uint8ClampedArray(lines * to);
  for (let x = 0; x < to; x++) {
    const { first, weights } = resizeTaps(kept.from + x, axis);
    // Rounded to the nearest integer, halves away from zero.
    const fixed = Int32Array.from(weights, (w) => Math.trunc(w * one + (w < 0 ? -0.5 : 0.5)));
    for (let line = 0; line < lines; line++) {
      let sum = one / 2;
      const start = line * from + first - read.from;
      for (let k = 0; k < fixed.length; k++) {
        sum += (image.data[start + k] ?? 0) * (fixed[k] ?? 0);
      }
      data[line * to + x] = sum >> bits;
    }
  }
  return { height: image.height, width: to, data: new Uint8Array(data.buffer) };
}

function transposed({ height, width, data }: Uint8Image): Uint8Image {
  const result = new Uint8Array(data.length);
  for (let channel = 0; channel < 3; channel++) {
    const plane = channel * height * width;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        result[plane + x * height + y] = data[plane + y * width + x] ?? 0;
      }
    }
  }
  return { height: width, width: height, data: result };
}
