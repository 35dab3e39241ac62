export { readStudy, type StudyFile, studyNames } from "./read_study.ts";
export { plannedRuns, rewardNames } from "./run_grid.ts";
export type { RunSpec } from "./plan_runs.ts";
