export { COMPUTE_KINDS, type ComputeKind, computeOf, isSpent } from "./budget.ts";
export { type PlanReport, planReport, reportText, writePlanReport } from "./plan_report.ts";
export {
  type Checkpoint,
  listCheckpoints,
  loraOf,
  newestCheckpoint,
  readCheckpoint,
  readProvenance,
} from "./checkpoint.ts";
export {
  defaultMemoryLimit,
  insideRoot,
  type OpenModelOptions,
  openRunModel,
  prepareRunConfig,
} from "./open_model.ts";
export { type Candidate, choose } from "./choice.ts";
export * from "./combine.ts";
export { type Evidence, evidenceOf } from "./evidence.ts";
export { diversity, findAlarm, type PanelMeasurement } from "./panel.ts";
export * from "./picture_note.ts";
export * from "./pictures.ts";
export * from "./reward_mixture.ts";
export * from "./run_config.ts";
export * from "./run_errors.ts";
export * from "./run_events.ts";
export { RunFolder } from "./run_folder.ts";
export * from "./run_recorder.ts";
export * from "./run_store.ts";
export * from "./list_models.ts";
export * from "./shard.ts";
export * from "./shard_workers.ts";
export * from "./opened_model.ts";
export * from "./run_dependencies.ts";
export { measureMachine, RunEstimator } from "./run_estimator.ts";
export { PromptsAhead } from "./_prompts_ahead.ts";
export { RunLog } from "./run_log.ts";
export { TrainingRun } from "./training_run.ts";
export * from "./run_pipeline.ts";
