import type { PanelMeasurement } from "./panel.ts";
import type { ConnectedTerm } from "./reward_mixture.ts";
import type { PanelEvent } from "./run_events.ts";

/** A measurement as `findAlarm` compares it: every reward such that greater is better. */
export function comparable(
  { step, rewards, diversity }: Pick<PanelEvent, "step" | "rewards" | "diversity">,
  terms: readonly ConnectedTerm[],
): PanelMeasurement {
  const trained: number[] = [];
  const heldOut: Record<string, number[]> = {};
  for (const { term: { name, weight }, client } of terms) {
    const sign = client.direction === "minimise" ? -1 : 1;
    const better = (rewards[name]?.perImage ?? []).map((s) => sign * s);
    if (weight === 0) heldOut[name] = better;
    else better.forEach((s, i) => trained[i] = (trained[i] ?? 0) + weight * s);
  }
  return { step, trained, heldOut, diversity };
}
