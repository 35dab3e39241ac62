export * from "./compile.ts";
export * from "./compiled.ts";
export { type GraphCost, graphCost, PRODUCT_KINDS, type ProductKind, totalFlops } from "./cost.ts";
export { PLAIN_POLICY, type Policy, policyOf } from "./policy.ts";
export { scaledGradient } from "./scaled_gradient.ts";
export { serialize, type SerializeOptions } from "./serialize.ts";
export * from "./target.ts";
