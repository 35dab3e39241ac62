import type { RewardTerm } from "./run_config.ts";

/** What a run is doing. */
export type RunState =
  | "queued"
  | "running"
  | "paused"
  | "stopping"
  | "stopped"
  | "finished"
  | "failed";

/** One reward at one step, in its own units. */
export interface RewardMetrics {
  readonly mean: number;
  readonly perImage: readonly number[];
  readonly digest: string;
}

/** A sample picture in the run's folder. */
export interface SampleReference {
  readonly prompt: string;
  readonly seed: number;
  /** PNG, relative to the run's folder. */
  readonly path: string;
  readonly rewards: Readonly<Record<string, number>>;
}

/** One iteration. Step 0 is the untrained model: it has samples only. */
export interface StepEvent {
  readonly type: "step";
  readonly step: number;
  readonly loss: number;
  readonly gradNorm: number;
  readonly rewards: Readonly<Record<string, RewardMetrics>>;
  readonly seconds: Readonly<Record<string, number>>;
  readonly secondsLeft: number;
  readonly samples: readonly SampleReference[];
  readonly prompts: readonly string[];
  readonly at: string;
}

/** A change of state. */
export interface StateEvent {
  readonly type: "state";
  readonly state: RunState;
  readonly reason: string;
  readonly step: number;
  readonly at: string;
}

/** A change of the mixture, in effect from the iteration after `step`. */
export interface SwapEvent {
  readonly type: "swap";
  readonly step: number;
  readonly rewards: readonly RewardTerm[];
  readonly at: string;
}

/** A checkpoint that is whole on disk. */
export interface CheckpointEvent {
  readonly type: "checkpoint";
  readonly step: number;
  readonly at: string;
}

export type RunEvent = StepEvent | StateEvent | SwapEvent | CheckpointEvent;
