import { type CropOffset, type Fit, fitPlane, type PlaneFit } from "./fit.ts";

/** How an image of any size becomes the square of pixels in [0, 1] that a model reads. */
export interface PixelRecipe {
  readonly fit: Fit;
  /** Side of the square, in pixels. */
  readonly size: number;
  /** Where the model's own processor begins an odd centre crop; the tensor path is always torchvision's. */
  readonly referenceCrop?: CropOffset;
}

/** The geometry of a recipe for one size of image. */
export function planRecipe(
  { fit, size, referenceCrop = "torchvision" }: PixelRecipe,
  { height, width, processing = "tensor" }: {
    readonly height: number;
    readonly width: number;
    readonly processing?: "tensor" | "reference";
  },
): PlaneFit {
  const cropOffset = processing === "reference" ? referenceCrop : "torchvision";
  return fitPlane({ height, width }, { fit, size, cropOffset });
}

const PHRASES: Readonly<Record<Fit, (size: number) => string>> = {
  crop: (n) => `resize shortest side to ${n} bicubic antialias, centre crop, CLIP normalise`,
  pad: (n) => `resize longest side to ${n} bicubic antialias, zero pad, CLIP normalise`,
  stretch: (n) => `resize to ${n}x${n} bicubic antialias, CLIP normalise`,
};

/** A recipe in one line. */
export function describeRecipe({ fit, size }: PixelRecipe): string {
  return PHRASES[fit](size);
}
