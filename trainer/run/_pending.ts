import { computeOf, isSpent } from "./budget.ts";
import type { RewardTerm, RunConfig } from "./run_config.ts";
import type { RunLog } from "./run_log.ts";

/** How a run is to end before its time. */
export interface End {
  readonly state: "stopped" | "queued";
  readonly reason: string;
}

/** Where a run is. Its loop goes forward, others ask it to end. */
export interface Progress {
  /** Iterations done. */
  step: number;
  /** Iterations to do. */
  iterations: number;
  /** The iteration in progress. */
  iterating: number | undefined;
  /** Steps that have a checkpoint, ascending. */
  checkpoints: readonly number[];
  /** What somebody asked for; what the run decides itself is told by its log, see `decidedEnd`. */
  end: End | undefined;
}

/** How far a run is, as its state events tell. */
export function doneOf({ step, iterations }: Progress) {
  return { step, iterations };
}

/** What is asked of a run, and not done, at the boundary after a step. */
export interface Pending {
  readonly end: End | undefined;
  /** A checkpoint. */
  readonly save: boolean;
  /** The mixture to train with from here on, where it is another than before. */
  readonly swap: readonly RewardTerm[] | undefined;
  /** A measurement of the panel. */
  readonly panel: boolean;
}

/** Where a run stands between two iterations. */
export interface Boundary {
  /** Iterations done. */
  readonly step: number;
  /** The mixture it trains with. */
  readonly mixture: readonly RewardTerm[];
}

interface Asked {
  readonly config: RunConfig;
  readonly log: RunLog;
  readonly progress: Progress;
}

/** What is asked of a run at a boundary: by its configuration, by requests in its log, and to end. */
export function pendingAt({ step, mixture }: Boundary, { config, log, progress }: Asked): Pending {
  const wanted = log.mixtureOf(step + 1);
  const { checkpointEvery, panel, stop } = config;
  // What is measured may be what is chosen.
  const isMeasured = panel.every > 0 && step % panel.every === 0;
  // Where the mixture changes there is a checkpoint, so that what came before needs no reward that has gone.
  const isAsked = (e: typeof log.events[number]) =>
    (e.type === "swap" || e.type === "save") && e.step === step;
  return {
    end: progress.end ?? decidedEnd(config, log),
    save: step > 0 && !progress.checkpoints.includes(step) &&
      (step % (checkpointEvery || Infinity) === 0 || (stop === "auto" && isMeasured) ||
        log.events.some(isAsked)),
    swap: wanted === mixture ? undefined : wanted,
    panel: isMeasured && !measured(log).has(step),
  };
}

/** How the run is to end by itself, before its last iteration: by its panel or by its budget. */
export function decidedEnd(config: RunConfig, log: RunLog): End | undefined {
  return endOfPanel(log) ?? endOfBudget(config, log);
}

/** What the last measurement decided, until the run has ended as it says: whoever resumes it then knows better. */
function endOfPanel({ events }: RunLog): End | undefined {
  const measured = events.findLastIndex((e) => e.type === "panel");
  const panel = events[measured];
  if (panel?.type !== "panel" || panel.ends === undefined) return undefined;
  const { ends } = panel;
  const isDone = events.slice(measured).some((e) =>
    e.type === "state" &&
    (e.state === "finished" || (e.state === "stopped" && e.reason === ends))
  );
  return isDone ? undefined : { state: "stopped", reason: ends };
}

function endOfBudget({ budget }: RunConfig, { events }: RunLog): End | undefined {
  if (budget === undefined) return undefined;
  const { seconds, of } = budget;
  const spent = events.flatMap((e) =>
    e.type === "step" && e.step > 0 ? computeOf(e, of) ?? [] : []
  );
  if (!isSpent(spent, seconds)) return undefined;
  const sum = spent.reduce((a, b) => a + b, 0);
  return {
    state: "stopped",
    reason: `Its budget of ${seconds} ${of} seconds is spent: ${sum.toFixed(1)} s`,
  };
}

/** Whether a wait for a reward at a boundary, or in the iteration after it, is to be given up for a request. */
export function isInterrupted(at: Boundary, asked: Asked): boolean {
  const { end, save, swap } = pendingAt(at, asked);
  if (end !== undefined || save || swap !== undefined) return true;
  return asked.progress.iterating !== undefined && early(at, asked) !== undefined;
}

/** A request for the boundary after the iteration in progress that was not brought forward yet. */
function early({ step, mixture }: Boundary, { log }: Asked) {
  const last = (type: "save" | "swap", at: number) =>
    log.events.findLastIndex((e) => e.type === type && e.step === at);
  // The untrained model needs no checkpoint.
  const save = step > 0 && last("save", step + 1) > last("save", step);
  const swap = log.mixtureOf(step + 2);
  return save || swap !== mixture ? { save, swap: swap === mixture ? undefined : swap } : undefined;
}

/** What was to come after an iteration that is given up comes before it: in the log, at its boundary. */
export async function bringForward(at: Boundary, asked: Asked): Promise<void> {
  const found = early(at, asked);
  const { step } = at;
  if (found?.swap !== undefined) {
    await asked.log.emit({ type: "swap", step, rewards: found.swap });
  } // A swap has its checkpoint anyway.
  else if (found?.save) await asked.log.emit({ type: "save", step });
}

/** Steps whose panel was measured under the present mixture: measurements of another say nothing about this one. */
function measured({ events }: RunLog): ReadonlySet<number> {
  const since = events.findLastIndex((e) => e.type === "swap") + 1;
  return new Set(events.slice(since).flatMap((e) => e.type === "panel" ? e.step : []));
}
