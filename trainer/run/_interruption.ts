import { raceAbort } from "../../base/mod.ts";
import type { LoopRun } from "./_loop_run.ts";
import { InterruptedError } from "./_patience.ts";
import { doneOf } from "./_pending.ts";

/** The outcome of work, unless the run gives its iteration up: then an `InterruptedError` at once. */
export async function givenUp<T>({ giveUp }: LoopRun, work: Promise<T>): Promise<T> {
  try {
    return await raceAbort(work, giveUp);
  } catch (error) {
    if (giveUp.aborted) throw new InterruptedError("Given up", { cause: error });
    throw error;
  }
}

/** Tells the log that a run which paused goes on, after an interruption that does not end it. */
export async function goOn({ log, progress }: LoopRun): Promise<void> {
  if (progress.end !== undefined || log.state !== "paused") return;
  await log.emit({ type: "state", state: "running", reason: "", ...doneOf(progress) });
}
