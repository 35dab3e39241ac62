export { dim, normalizeAxis, swapLast } from "./_types.ts";
export { ATTRIBUTES } from "./attributes.ts";
export * from "./table.ts";
export { windowOf } from "./window.ts";
