export * from "./method_config.ts";
export * from "./methods.ts";
export * from "./plan.ts";
