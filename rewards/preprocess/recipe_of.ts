import { CLIP_MEAN, CLIP_STD, type ImagePreprocessing } from "../../models/clip/mod.ts";
import type { Fit } from "./fit.ts";
import type { PixelRecipe } from "./recipe.ts";

const FIT_OF: Readonly<Record<ImagePreprocessing["resize"], Fit>> = {
  cover: "crop",
  within: "pad",
  stretch: "stretch",
  none: "centre",
};

/** The geometry of a model's own preprocessing, for a tower that reads squares of side `size`. */
export function recipeOf(
  { resize, resizeTo, resample, ...values }: ImagePreprocessing,
  size: number,
): PixelRecipe {
  return { fit: FIT_OF[resize], size, resizeTo, resample, values: describeNormalise(values) };
}

/** A normalisation in a few words. */
export function describeNormalise(
  { scale, mean, std }: Pick<ImagePreprocessing, "scale" | "mean" | "std">,
): string {
  const are = (values: readonly number[], others: readonly number[]) =>
    values.every((v, i) => Math.abs(v - (others[i] ?? NaN)) < 1e-6);
  const scaled = scale === 1 ? [] : [`times ${scale}`];
  if (are(mean, [0, 0, 0]) && are(std, [1, 1, 1])) return scaled.join("");
  const isOfClip = are(mean, CLIP_MEAN) && are(std, CLIP_STD);
  return [...scaled, isOfClip ? "CLIP normalise" : `mean ${mean.join(" ")}, std ${std.join(" ")}`]
    .join(", ");
}
