export { type PhasePlan, planRun, type RunPlan } from "./run_plan.ts";
export { measureSpeed, secondsOf, type Speed } from "./speed.ts";
