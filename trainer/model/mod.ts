export * from "./model.ts";
export * from "./pipeline_model.ts";
