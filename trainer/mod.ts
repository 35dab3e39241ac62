export * from "./errors.ts";
export * from "./methods/mod.ts";
export * from "./model/mod.ts";
export * from "./optim/mod.ts";
export * from "./random.ts";
export * from "./samplers/mod.ts";
export * from "./step/mod.ts";
export type { Float32Tensor, Parameters } from "./tensors.ts";
export { openTraceModel, readTraceCase, trace, type TraceCase } from "./trace.ts";
