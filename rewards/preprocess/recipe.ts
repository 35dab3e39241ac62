import {
  type CropOffset,
  type Extent,
  extentOf,
  type Fit,
  fitPlane,
  type PlaneFit,
} from "./fit.ts";
import type { Resample } from "./resize_taps.ts";

/** How an image of any size becomes the pixels in [0, 1] that a model reads. */
export interface PixelRecipe {
  readonly fit: Fit;
  /** Side of the square, or both of a rectangle, in pixels. */
  readonly size: number | Extent;
  /** Default "bicubic". */
  readonly resample?: Resample;
  /** What the graph makes of the pixels, in words. Default "CLIP normalise". */
  readonly values?: string;
  /** How the model's own package prepares a file: in integers, or as the exact map. Default "reference". */
  readonly files?: "tensor" | "reference";
  /** Where the model's own processor begins an odd centre crop; the tensor path is always torchvision's. */
  readonly referenceCrop?: CropOffset;
}

/** The geometry of a recipe for one size of image. */
export function planRecipe(
  { fit, size, resample = "bicubic", referenceCrop = "torchvision" }: PixelRecipe,
  { height, width, processing = "tensor" }: {
    readonly height: number;
    readonly width: number;
    readonly processing?: "tensor" | "reference";
  },
): PlaneFit {
  const cropOffset = processing === "reference" ? referenceCrop : "torchvision";
  return fitPlane({ height, width }, { fit, size, resample, cropOffset });
}

const PHRASES: Readonly<Record<Fit, (size: Extent, how: string) => string>> = {
  crop: ({ height, width }, how) =>
    height === width
      ? `resize shortest side to ${height} ${how}, centre crop`
      : `resize to cover ${height}x${width} ${how}, centre crop`,
  pad: ({ height, width }, how) =>
    height === width
      ? `resize longest side to ${height} ${how}, zero pad`
      : `resize to lie within ${height}x${width} ${how}, zero pad`,
  stretch: ({ height, width }, how) => `resize to ${height}x${width} ${how}`,
};

/** A recipe in one line. */
export function describeRecipe(
  { fit, size, resample = "bicubic", values = "CLIP normalise" }: PixelRecipe,
): string {
  return [PHRASES[fit](extentOf(size), `${resample} antialias`), values].filter(Boolean).join(", ");
}
