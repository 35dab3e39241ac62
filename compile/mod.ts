export { type GraphCost, graphCost, PRODUCT_KINDS, type ProductKind, totalFlops } from "./cost.ts";
export { scaledGradient } from "./scaled_gradient.ts";
export { serialize, type SerializeOptions } from "./serialize.ts";
