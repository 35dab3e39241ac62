import {
  type CropOffset,
  type Extent,
  extentOf,
  type Fit,
  fitPlane,
  type PlaneFit,
} from "./fit.ts";
import type { Resizer } from "./fit_uint8.ts";
import type { Resample } from "./resize_taps.ts";

/** How an image of any size becomes the pixels in [0, 1] that a model reads. */
export interface PixelRecipe {
  readonly fit: Fit;
  /** Side of the square, or both of a rectangle, in pixels. */
  readonly size: number | Extent;
  /** What the image is resized to before it is cut to its size. Default: that size. */
  readonly resizeTo?: number | Extent;
  /** Default "bicubic". */
  readonly resample?: Resample;
  /** What the graph makes of the pixels, in words. Default "CLIP normalise". */
  readonly values?: string;
  /** How the model's own package prepares a file: in integers, or as the exact map. Default "reference". */
  readonly files?: "tensor" | "reference";
  /** Where the model's own processor begins an odd centre crop; the tensor path is always torchvision's. */
  readonly referenceCrop?: CropOffset;
  /** What the model's own processor resizes 8-bit pictures with. Default "pillow". */
  readonly referenceResizer?: Resizer;
}

/** The geometry of a recipe for one size of image. */
export function fitRecipe(
  { fit, size, resizeTo, resample = "bicubic", referenceCrop = "torchvision" }: PixelRecipe,
  { height, width, processing = "tensor" }: {
    readonly height: number;
    readonly width: number;
    readonly processing?: "tensor" | "reference";
  },
): PlaneFit {
  const cropOffset = processing === "reference" ? referenceCrop : "torchvision";
  return fitPlane({ height, width }, { fit, size, resizeTo, resample, cropOffset });
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
  centre: () => "",
};

/** A recipe in one line. */
export function describeRecipe(
  { fit, size, resizeTo = size, resample = "bicubic", values = "CLIP normalise" }: PixelRecipe,
): string {
  const [from, to] = [extentOf(resizeTo), extentOf(size)];
  const how = resample === "nearest" ? resample : `${resample} antialias`;
  const isCut = fit === "centre" || from.height !== to.height || from.width !== to.width;
  const cut = isCut ? `centre ${to.height}x${to.width}` : "";
  return [PHRASES[fit](from, how).replace(isCut ? ", centre crop" : /$^/, ""), cut, values]
    .filter(Boolean).join(", ");
}
