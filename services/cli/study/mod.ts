export { readStudy, type StudyFile, studyNames } from "./read_study.ts";
export { gridRuns, rewardNames } from "./run_grid.ts";
export type { RunSpec } from "./grid_runs.ts";
