export { bicubicTaps, type Taps } from "./bicubic.ts";
export { type AxisFit, type CropOffset, type Fit, fitPlane, type PlaneFit } from "./fit.ts";
export { fitImages, isIdentityFit } from "./fit_images.ts";
export { fitUint8, type Uint8Image } from "./fit_uint8.ts";
export { CLIP_MEAN, CLIP_STD, clipNormalise } from "./normalise.ts";
export { describeRecipe, type PixelRecipe, planRecipe } from "./recipe.ts";
