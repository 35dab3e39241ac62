import type { Resample, Resize } from "./resize_taps.ts";

/** Height and width in pixels. */
export interface Extent {
  readonly height: number;
  readonly width: number;
}

/** The square of that side, or the rectangle as it is. */
export function extentOf(size: number | Extent): Extent {
  return typeof size === "number" ? { height: size, width: size } : size;
}

/**
 * How an image of any size becomes the square or rectangle a model reads, always with `resizeTaps`:
 * - `crop`: it is resized to cover it, of a square the shortest side to its, and the centre cut out (CLIP);
 * - `pad`: it is resized to lie within, of a square the longest side to its, and the rest filled with zeros, before
 *   normalisation (HPS v2);
 * - `stretch`: both sides are resized, whatever the aspect (OWL-ViT);
 * - `centre`: nothing is resized.
 *
 * Where the image is resized to something else than the result, it is then cut to it, or filled up with zeros, around
 * the centre.
 */
export const FITS = ["crop", "pad", "stretch", "centre"] as const;

/** One of `FITS`. */
export type Fit = (typeof FITS)[number];

/**
 * One axis of a fit: `from` samples are resized to `to`, of which sample `offset + i` becomes sample i of the `size`
 * that the result has; samples outside 0..to-1 are zero.
 */
export interface AxisFit extends Resize {
  readonly offset: number;
  readonly size: number;
}

/** Both axes of a fit. */
export interface PlaneFit {
  readonly rows: AxisFit;
  readonly columns: AxisFit;
}

/**
 * Where a centre crop of an odd margin begins: torchvision rounds half the margin to the nearest even number, the
 * image processors of transformers round it down.
 */
export type CropOffset = "torchvision" | "transformers";

/** The geometry of fitting an image into a square of side `size`, or a rectangle. */
export function fitPlane(
  { height, width }: Extent,
  { fit, size, resizeTo = size, resample = "bicubic", cropOffset = "torchvision" }: {
    readonly fit: Fit;
    readonly size: number | Extent;
    /** What the image is resized to, where that is not the result's size. */
    readonly resizeTo?: number | Extent | undefined;
    readonly resample?: Resample;
    readonly cropOffset?: CropOffset;
  },
): PlaneFit {
  const target = extentOf(resizeTo);
  const result = extentOf(size);
  const offsetOf = (margin: number) => {
    if (margin < 0) return -Math.floor(-margin / 2);
    return cropOffset === "torchvision" ? roundHalfToEven(margin / 2) : Math.floor(margin / 2);
  };
  // Of the two sides, the one that needs the larger scale is the shorter one, measured by what it becomes.
  const [byHeight, byWidth] = [target.height / height, target.width / width];
  const shorter = byHeight >= byWidth
    ? { from: height, to: target.height }
    : { from: width, to: target.width };
  const axis = (
    from: number,
    own: number,
    { scale, cut }: { scale: number; cut: number },
  ): AxisFit => {
    const to = fit === "centre"
      ? from
      : fit === "stretch"
      ? own
      : fit === "crop"
      ? scale >= Math.max(byHeight, byWidth)
        ? own
        : Math.max(own, Math.trunc(shorter.to * from / shorter.from))
      : roundHalfToEven(from * Math.min(byHeight, byWidth));
    return { from, to, resample, offset: offsetOf(to - cut), size: cut };
  };
  return {
    rows: axis(height, target.height, { scale: byHeight, cut: result.height }),
    columns: axis(width, target.width, { scale: byWidth, cut: result.width }),
  };
}

/** As Python's `round`. */
function roundHalfToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
