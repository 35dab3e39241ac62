import type { RunConfig } from "./run_config.ts";
import type { RunEvent } from "./run_events.ts";

/** A run that starts or goes on. */
export interface RecordedRun {
  readonly id: string;
  /** Its folder's path. */
  readonly folder: string;
  readonly config: RunConfig;
  /** Iterations done; later ones that earlier events told of are done again. */
  readonly step: number;
  /** What its log holds. */
  readonly events: readonly RunEvent[];
}

/** Keeps a run's events in a form of its own. It must not throw: the run does not depend on it. */
export interface RunRecorder {
  /** Told of each event, in order, once the log holds it. Training does not wait. */
  record(event: RunEvent): void;
  /** Nothing more comes; resolves when all is written. */
  close(): Promise<void>;
}
