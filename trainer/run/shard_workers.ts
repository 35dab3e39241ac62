import type { Parameters } from "../tensors.ts";
import type { RewardTerm, RunConfig } from "./run_config.ts";
import type { Shard, ShardResult } from "./shard.ts";

/** A run as workers are told of it before its first shard. */
export interface ServedRun {
  readonly id: string;
  readonly config: RunConfig;
  /** sha256 (hex) that the weights of a worker's model must have. */
  readonly modelDigest: string;
  /** Tells whoever watches the run. */
  readonly say: (remark: string) => Promise<void>;
}

/** Shards of one iteration. */
export interface ShardWork {
  /** From 1. */
  readonly iteration: number;
  readonly shards: readonly Shard[];
  /** The LoRA that the iteration begins with. */
  readonly parameters: Parameters;
  /** What drift is measured from, where that is not the frozen model. */
  readonly reference: Parameters | undefined;
  /** The mixture that is trained. */
  readonly rewards: readonly RewardTerm[];
  /** Is given each result once, with the index of its shard. */
  readonly take: (index: number, result: ShardResult) => void;
}

/** Shards that workers compute. */
export interface OfferedShards {
  /**
   * Resolves when all are taken. Throws `UnavailableError` for what passes: no worker takes them, or a reward does not
   * answer one; it may be called again then and waits for those that are left. Throws the fault of a shard that several
   * workers failed at, and the signal's reason.
   */
  taken(signal: AbortSignal): Promise<void>;
  /** Takes back what is not computed yet; results that come later are refused. */
  withdraw(): Promise<void>;
}

/** The workers of one run. */
export interface RunWorkers {
  offer(work: ShardWork): OfferedShards;
  /** Lets the workers go. */
  close(): Promise<void>;
}

/** Workers that compute shards for a trainer, in other processes. */
export interface ShardWorkers {
  /** Tells the workers of a run, as soon as they can be told. */
  begin(run: ServedRun): Promise<RunWorkers>;
}
