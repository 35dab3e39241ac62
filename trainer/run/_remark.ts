import { doneOf, type Progress } from "./_pending.ts";
import type { RunLog } from "./run_log.ts";

/** Tells of something while a run goes on; what it waits for, or that it stops, is still to be seen. */
export async function remark(
  text: string,
  { log, progress }: { readonly log: RunLog; readonly progress: Progress },
): Promise<void> {
  if (log.ended) return;
  const { state, lastState: { reason: before } = { reason: "" } } = log;
  const reason = state === "running" || before === "" ? text : `${before}; ${text}`;
  await log.emit({ type: "state", state, reason, ...doneOf(progress) });
}
