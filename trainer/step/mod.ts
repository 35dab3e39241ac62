export * from "./drift.ts";
export * from "./guided_denoiser.ts";
export * from "./networks.ts";
export * from "./noise.ts";
export * from "./random_shift.ts";
export * from "./reward_source.ts";
export { type Probe, sample, type Trajectory } from "./sample.ts";
export { type StraightThrough, straightThrough } from "./straight_through.ts";
export * from "./train_step.ts";
