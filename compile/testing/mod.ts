export * from "./_map_values.ts";
export * from "./check_gradient.ts";
export * from "./tensors.ts";
