export { dim, normalizeAxis, swapLast } from "./_types.ts";
export { type AttributeName, ATTRIBUTES, attributeType } from "./attributes.ts";
export * from "./table.ts";
export { reach, windowOf } from "./window.ts";
