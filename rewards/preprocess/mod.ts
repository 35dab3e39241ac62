export {
  type AxisFit,
  type CropOffset,
  type Extent,
  extentOf,
  type Fit,
  fitPlane,
  FITS,
  type PlaneFit,
} from "./fit.ts";
export { fitImages, isIdentityFit } from "./fit_images.ts";
export { fitUint8, type Uint8Image } from "./fit_uint8.ts";
export { CLIP_MEAN, CLIP_STD, clipNormalise } from "./normalise.ts";
export { describeRecipe, type PixelRecipe, planRecipe } from "./recipe.ts";
export { type Resample, resizeTaps, type Taps } from "./resize_taps.ts";
