import type { OpenedModel } from "./opened_model.ts";
import { type PlanReport, planReport, readEstimate, writePlanReport } from "./plan_report.ts";
import type { RunLog } from "./run_log.ts";

/**
 * Compares the estimate of a run with what was measured so far, each time the answer is called, and writes the outcome
 * into the run's folder.
 *
 * @param from the step that the process began at; what another process measured does not count
 */
export async function estimateReporter(
  opened: OpenedModel,
  { folder, log, from }: {
    readonly folder: string;
    readonly log: RunLog;
    readonly from: number;
  },
): Promise<() => Promise<PlanReport | undefined>> {
  // A run does not end for want of an estimate.
  const plan = await readEstimate(folder) ?? await opened.plan?.().catch(() => undefined);
  return async () => {
    const bytes = await opened.peakMemory?.();
    const report = plan && planReport(plan, { bytes, events: log.events, from });
    if (report !== undefined) await writePlanReport(folder, report);
    return report;
  };
}
