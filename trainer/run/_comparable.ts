import { combined } from "./combine.ts";
import type { PanelMeasurement } from "./panel.ts";
import type { ConnectedTerm } from "./reward_mixture.ts";
import type { RunConfig } from "./run_config.ts";
import type { PanelEvent } from "./run_events.ts";

/**
 * A measurement as `findAlarm` compares it: every reward such that greater is better. Scores are not standardised: over the
 * images of a measurement standardised ones have the same mean every time.
 */
export function comparable(
  { step, rewards, diversity }: Pick<PanelEvent, "step" | "rewards" | "diversity">,
  terms: readonly ConnectedTerm[],
  { combine }: Pick<RunConfig, "combine">,
): PanelMeasurement {
  const heldOut: Record<string, number[]> = {};
  const counted = terms.map(({ term: { zScore: _, ...term }, client: { direction } }) => ({
    ...term,
    direction,
    scores: rewards[term.name]?.perImage ?? [],
  }));
  for (const { name, weight, direction, scores } of counted) {
    const sign = direction === "minimise" ? -1 : 1;
    if (weight === 0) heldOut[name] = scores.map((s) => sign * s);
  }
  const measured = counted.filter(({ weight }) => weight !== 0);
  return { step, trained: combined(measured, combine).perImage, heldOut, diversity };
}
