import { type CropOffset, type Fit, fitPlane, type PlaneFit } from "./fit.ts";
import type { Resample } from "./resize_taps.ts";

/** How an image of any size becomes the square of pixels in [0, 1] that a model reads. */
export interface PixelRecipe {
  readonly fit: Fit;
  /** Side of the square, in pixels. */
  readonly size: number;
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

const PHRASES: Readonly<Record<Fit, (size: number, how: string) => string>> = {
  crop: (n, how) => `resize shortest side to ${n} ${how}, centre crop`,
  pad: (n, how) => `resize longest side to ${n} ${how}, zero pad`,
  stretch: (n, how) => `resize to ${n}x${n} ${how}`,
};

/** A recipe in one line. */
export function describeRecipe(
  { fit, size, resample = "bicubic", values = "CLIP normalise" }: PixelRecipe,
): string {
  return [PHRASES[fit](size, `${resample} antialias`), values].filter(Boolean).join(", ");
}
