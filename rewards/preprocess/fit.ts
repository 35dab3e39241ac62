import type { Resample, Resize } from "./resize_taps.ts";

/**
 * How an image of any size becomes the square a model reads, always with `resizeTaps`:
 * - `crop`: the shortest side is resized to `size`, the longest in proportion, and the centre cut out (CLIP);
 * - `pad`: the longest side is resized to `size` and the rest filled with zeros, before normalisation (HPS v2);
 * - `stretch`: both sides are resized to `size`, whatever the aspect (OWL-ViT).
 */
export const FITS = ["crop", "pad", "stretch"] as const;

/** One of `FITS`. */
export type Fit = (typeof FITS)[number];

/**
 * One axis of a fit: `from` samples are resized to `to`, of which sample `offset + i` becomes sample i of the
 * result; samples outside 0..to-1 are zero.
 */
export interface AxisFit extends Resize {
  readonly offset: number;
}

/** Both axes of a fit, and the sides of the result. */
export interface PlaneFit {
  readonly size: number;
  readonly rows: AxisFit;
  readonly columns: AxisFit;
}

/**
 * Where a centre crop of an odd margin begins: torchvision rounds half the margin to the nearest even number, the
 * image processors of transformers round it down.
 */
export type CropOffset = "torchvision" | "transformers";

/** The geometry of fitting an image of `height` x `width` into a square of `size`. */
export function fitPlane(
  { height, width }: { readonly height: number; readonly width: number },
  { fit, size, resample = "bicubic", cropOffset = "torchvision" }: {
    readonly fit: Fit;
    readonly size: number;
    readonly resample?: Resample;
    readonly cropOffset?: CropOffset;
  },
): PlaneFit {
  const [short, long] = [Math.min(height, width), Math.max(height, width)];
  const offsetOf = (to: number) => {
    const margin = to - size;
    if (margin < 0) return -Math.floor(-margin / 2);
    return cropOffset === "torchvision" ? roundHalfToEven(margin / 2) : Math.floor(margin / 2);
  };
  const axis = (from: number): AxisFit => {
    const to = fit === "stretch"
      ? size
      : fit === "crop"
      ? from === short ? size : Math.trunc(size * long / short)
      : roundHalfToEven(from * (size / long));
    return { from, to, resample, offset: offsetOf(to) };
  };
  return { size, rows: axis(height), columns: axis(width) };
}

/** As Python's `round`. */
function roundHalfToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
