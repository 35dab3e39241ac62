export type { Draws } from "./_draws.ts";
export * from "./method_config.ts";
export { methodParameters } from "./method_parameters.ts";
export * from "./methods.ts";
export * from "./step_selection.ts";
export * from "./surrogate.ts";
