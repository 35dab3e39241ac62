import type { RunPlan } from "../plan/mod.ts";
import type { OpenedModel } from "./opened_model.ts";
import type { RewardClient } from "./reward_mixture.ts";
import type { RewardTerm, RunConfig } from "./run_config.ts";
import type { ShardWorkers } from "./shard_workers.ts";
import type { RecordedRun, RunRecorder } from "./run_recorder.ts";

/** What a run needs from outside. */
export interface RunDependencies {
  openModel(config: RunConfig): Promise<OpenedModel>;
  /** Throws `RewardUnavailableError` where the service does not answer, and soon once `signal` aborts. */
  connect(term: RewardTerm, signal: AbortSignal): Promise<RewardClient>;
  /** Refuses a configuration whose rewards answer and are not those wanted. Not asked of a run that is there. */
  readonly admit?: (config: RunConfig) => Promise<void>;
  /** Checks a configuration, also against its model's files. Default: `parseRunConfig`. */
  readonly prepare?: (value: unknown) => Promise<RunConfig>;
  /** Estimates what a prepared configuration takes. Default: nothing is estimated. */
  readonly estimate?: (config: RunConfig) => Promise<RunPlan>;
  /** Workers that compute what runs train on. Default: this process does. */
  readonly workers?: ShardWorkers;
  /** Begins a record of a run beside its log. */
  readonly record?: (run: RecordedRun) => Promise<RunRecorder>;
  /** Present time. */
  readonly now?: () => Date;
  /** Longest wait between two tries of a reward that is away, in milliseconds. Default 10,000. */
  readonly maxRetryMs?: number;
  /** How long a run that is to go on later may take to end its iteration before it gives it up, in milliseconds. Default 5,000. */
  readonly graceMs?: number;
}
