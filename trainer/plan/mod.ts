export * from "./simulation/mod.ts";
export { planRun, type RunPlan } from "./run_plan.ts";
export { measureSpeed, secondsOf, type Speed } from "./speed.ts";
export { type PhasePlan, PHASES } from "./work.ts";
