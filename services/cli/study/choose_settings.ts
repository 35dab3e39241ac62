import { summarise } from "../../../base/mod.ts";
import type { MeasuredPicture } from "./measure_run.ts";
import type { Cell } from "./grid_runs.ts";

/** What a trial came to. */
export interface Trial {
  readonly cell: Cell;
  readonly candidate: string;
  /** The reward that was trained. */
  readonly target: string;
  readonly isUp: boolean;
  readonly before: readonly MeasuredPicture[];
  readonly after: readonly MeasuredPicture[];
}

/** What was chosen for the cells that share values of the axes in `per`. */
export interface Choice {
  readonly of: Cell;
  readonly candidate: string;
  /** Mean standardised improvement of every candidate, by its name. */
  readonly improvements: Readonly<Record<string, number>>;
}

/**
 * The rule by which settings are chosen, the same for every method: of the candidates the one whose trials improve what
 * they train most, in standard deviations of the pictures without LoRA, mean over trials. Of equal ones the first.
 */
export function chooseSettings(trials: readonly Trial[], per: readonly string[]): Choice[] {
  const shared = (cell: Cell): Cell =>
    Object.fromEntries(per.map((axis) => [axis, cell[axis] ?? ""]));
  const groups = Map.groupBy(trials, ({ cell }) => JSON.stringify(shared(cell)));
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const improvements = Object.fromEntries(
      [...Map.groupBy(group, ({ candidate }) => candidate)].map(([candidate, own]) => [
        candidate,
        summarise(own.map(improvement)).mean,
      ]),
    );
    const [best = ["", 0] as const] = Object.entries(improvements).sort(([, a], [, b]) => b - a);
    return [{ of: shared(first.cell), candidate: best[0], improvements }];
  });
}

/** How far a reward moved the right way, in standard deviations of the pictures before. */
export function improvement(
  { target, isUp, before, after }: Pick<Trial, "target" | "isUp" | "before" | "after">,
): number {
  const of = (pictures: readonly MeasuredPicture[]) =>
    pictures.map(({ scores }) => scores[target] ?? NaN);
  const change = summarise(of(after)).mean - summarise(of(before)).mean;
  return (isUp ? change : -change) / (deviation(of(before)) || 1);
}

/** The standard deviation of values. */
export function deviation(values: readonly number[]): number {
  const { mean } = summarise(values);
  const squares = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
  return Math.sqrt(squares / Math.max(1, values.length - 1));
}
