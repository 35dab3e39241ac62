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
export { fitUint8, type Resizer, type Uint8Image } from "./fit_uint8.ts";
export { normalise } from "./normalise.ts";
export { describeNormalise, recipeOf } from "./recipe_of.ts";
export { describeRecipe, fitRecipe, type PixelRecipe } from "./recipe.ts";
export { type Resample, resizeTaps, type Taps } from "./resize_taps.ts";
