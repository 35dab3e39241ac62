export { dim, normalizeAxis, swapLast } from "./_types.ts";
export * from "./table.ts";
export { reach, type Window, windowOf } from "./window.ts";
