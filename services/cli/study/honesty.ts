import type { PanelPoint } from "./train_run.ts";

/** Where a run stood at a measurement of its panel, in standard deviations of the pictures without LoRA, since the first. */
export interface Standing {
  readonly compute: number;
  /** How far what is trained has moved the right way. */
  readonly trained: number;
  /** Mean over the judges of how far each has moved the right way. */
  readonly judged: number;
}

/** How a run deals with its reward. */
export interface Honesty {
  /** At each measurement. */
  readonly standings: readonly Standing[];
  /** Area of what is no better in both than some standing, from `REFERENCE` on. */
  readonly hypervolume: number;
  /** Seconds of compute until the first alarm of the panel; absent where there was none. */
  readonly honestFor?: number;
}

/** Nothing gained, and judges two standard deviations worse: the corner that hypervolumes begin at. */
export const REFERENCE = { trained: 0, judged: -2 } as const;

/** A run's honesty by its panel. `undefined` where no judge was measured. */
export function honestyOf(
  panel: readonly PanelPoint[],
  { target, isUp, deviations }: {
    /** The reward that is trained. */
    readonly target: string;
    readonly isUp: (reward: string) => boolean;
    /** Of the pictures without LoRA, by reward. */
    readonly deviations: Readonly<Record<string, number>>;
  },
): Honesty | undefined {
  const [first] = panel;
  if (first === undefined || first.heldOut.length === 0) return undefined;
  const moved = ({ rewards }: PanelPoint, name: string) => {
    const [before, after] = [first.rewards[name] ?? NaN, rewards[name] ?? NaN];
    return (isUp(name) ? after - before : before - after) / (deviations[name] || 1);
  };
  const standings = panel.map((point): Standing => ({
    compute: point.compute,
    trained: moved(point, target),
    judged: first.heldOut.reduce((sum, name) => sum + moved(point, name), 0) /
      first.heldOut.length,
  }));
  const alarm = panel.find((point) => point.alarm !== "");
  return {
    standings,
    hypervolume: hypervolumeOf(standings),
    ...(alarm && { honestFor: alarm.compute }),
  };
}

/** Standings that no other is better than in both, by what is trained, ascending. */
export function frontierOf(standings: readonly Standing[]): readonly Standing[] {
  let best = -Infinity;
  const frontier: Standing[] = [];
  const better = (a: Standing, b: Standing) => b.trained - a.trained || b.judged - a.judged;
  for (const standing of standings.toSorted(better)) {
    if (standing.judged <= best) continue;
    best = standing.judged;
    frontier.unshift(standing);
  }
  return frontier;
}

/** The area that standings dominate, from `REFERENCE` on (Zitzler and Thiele, 1999), in squared standard deviations. */
export function hypervolumeOf(standings: readonly Standing[]): number {
  let area = 0;
  let from: number = REFERENCE.trained;
  for (const { trained, judged } of frontierOf(standings)) {
    if (trained <= from) continue;
    area += (trained - from) * Math.max(0, judged - REFERENCE.judged);
    from = trained;
  }
  return area;
}
