import type { Patience } from "./_patience.ts";
import type { Progress } from "./_pending.ts";
import type { RewardClients } from "./_reward_clients.ts";
import type { RunConfig } from "./run_config.ts";
import type { RunFolder } from "./run_folder.ts";
import type { RunLog } from "./run_log.ts";
import type { RunWorkers } from "./shard_workers.ts";

/** A run as its loop sees it. */
export interface LoopRun {
  readonly id: string;
  readonly folder: RunFolder;
  readonly config: RunConfig;
  readonly log: RunLog;
  readonly progress: Progress;
  readonly clients: RewardClients;
  readonly patience: Patience;
  /** Those that compute its shards; absent where this process does. */
  readonly workers?: RunWorkers | undefined;
  /** Aborts when the iteration in progress is to be given up, without waiting for what computes it. */
  readonly giveUp: AbortSignal;
}
