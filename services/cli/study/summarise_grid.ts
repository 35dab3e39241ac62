import { summarise, type Summary } from "../../../base/mod.ts";
import type { Choice } from "./choose_settings.ts";
import { deviation, improvement } from "./choose_settings.ts";
import type { MeasuredPicture } from "./measure_run.ts";
import type { Cell } from "./grid_runs.ts";
import { isFields } from "./deep_merge.ts";
import { type Honesty, honestyOf } from "./honesty.ts";
import { type Measured, targetOf } from "./run_grid.ts";
import type { CurvePoint, PanelPoint } from "./train_run.ts";

/** A reward of a cell's pictures, in its own units. */
export interface RewardChange {
  readonly before: number;
  readonly after: number;
  /** Mean change of the same prompts and seeds, and its 95 % interval. */
  readonly change: Summary;
  /** The mean change at each training seed. */
  readonly bySeed: readonly number[];
}

/** What the runs of a cell came to. */
export interface CellSummary {
  readonly cell: Cell;
  /** The reward that is trained. */
  readonly target: string;
  readonly isUp: boolean;
  readonly seeds: readonly number[];
  /** Means over the seeds. */
  readonly iterations: number;
  readonly compute: number;
  readonly rewardSeconds: number;
  /** How far the target moved the right way, in standard deviations of the pictures before. */
  readonly improvement: number;
  /** K, m and T, where the method has them. */
  readonly quantities: Readonly<Record<string, number>>;
  readonly rewards: Readonly<Record<string, RewardChange>>;
  /** Of each seed. */
  readonly curves: readonly (readonly CurvePoint[])[];
  readonly panels: readonly (readonly PanelPoint[])[];
  /** Of each seed whose panel had judges. */
  readonly honesty: readonly Honesty[];
  /** Names of the runs, and of the pictures without LoRA. */
  readonly runs: readonly string[];
  readonly without: string;
}

/** Cells of one value of an axis, the best first, and how far each is behind it. */
export interface Ranking {
  /** The axis' value. */
  readonly of: string;
  readonly order: readonly {
    readonly cell: Cell;
    readonly improvement: number;
    /** Of the target, this minus the best, on the same pictures; a good sign is one that favours this. */
    readonly behind: Summary;
  }[];
}

/** What a grid found. */
export interface GridSummary {
  /** What intervals are over. */
  readonly intervals: "training seeds" | "pictures";
  readonly pictures: number;
  readonly cells: readonly CellSummary[];
  readonly choices: readonly Choice[];
}

/** Fewer seeds say too little of the spread between them: their intervals would be of any width. */
const LEAST_SEEDS = 3;

/** Puts the runs of each cell together. */
export function summariseGrid(
  { runs, choices }: { readonly runs: readonly Measured[]; readonly choices: readonly Choice[] },
  isUp: (reward: string) => boolean,
): GridSummary {
  const groups = Map.groupBy(runs, ({ spec }) => JSON.stringify(spec.cell));
  const cells = [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const target = targetOf(first.spec);
    const results = group.map(({ result }) => result);
    const before = first.baseline.pictures;
    const names = Object.keys(first.result.pictures[0]?.scores ?? {});
    const after = results.flatMap(({ pictures }) => pictures);
    return [{
      cell: first.spec.cell,
      ...{ target, isUp: isUp(target), seeds: results.map(({ seed }) => seed) },
      iterations: mean(results.map(({ iterations }) => iterations)),
      compute: mean(results.map(({ compute }) => compute)),
      rewardSeconds: mean(results.map(({ rewardSeconds }) => rewardSeconds)),
      improvement: improvement({ target, isUp: isUp(target), before, after }),
      quantities: quantitiesOf(first.result.config),
      rewards: Object.fromEntries(names.map((name) => [name, changeOf(group, name)])),
      curves: results.map(({ curve }) => curve),
      panels: results.map(({ panel }) => panel),
      honesty: results.flatMap(({ panel }) =>
        honestyOf(panel, { target, isUp, deviations: deviationsOf(before) }) ?? []
      ),
      runs: results.map(({ id }) => id),
      without: `without-${first.baseline.key}`,
    }];
  });
  const seeds = Math.min(...cells.map((cell) => cell.seeds.length));
  return {
    intervals: seeds >= LEAST_SEEDS ? "training seeds" : "pictures",
    pictures: runs[0]?.result.pictures.length ?? 0,
    ...{ cells, choices },
  };
}

/** For each value of an axis its cells in order, the best first. */
export function rankings(
  runs: readonly Measured[],
  { summary: { cells }, by }: { readonly summary: GridSummary; readonly by: string },
): readonly Ranking[] {
  const groups = Map.groupBy(cells, ({ cell }) => cell[by] ?? "");
  return [...groups].map(([of, own]) => {
    const order = [...own].sort((a, b) => b.improvement - a.improvement);
    const [best] = order;
    return {
      of,
      order: order.map((entry) => ({
        cell: entry.cell,
        improvement: entry.improvement,
        behind: summarise(
          best === undefined
            ? []
            : differences(runs, { cells: [entry, best], target: entry.target }),
        ),
      })),
    };
  });
}

/** Per picture: a reward's mean over the seeds in one cell, minus that in another. */
function differences(
  runs: readonly Measured[],
  { cells: [a, b], target }: {
    readonly cells: readonly [CellSummary, CellSummary];
    readonly target: string;
  },
): readonly number[] {
  const of = ({ runs: ids }: CellSummary) =>
    byPicture(
      runs.filter(({ result }) => ids.includes(result.id)).map(({ result }) => result.pictures),
      target,
    );
  const [left, right] = [of(a), of(b)];
  return [...left].map(([key, value]) => value - (right.get(key) ?? NaN));
}

function changeOf(group: readonly Measured[], name: string): RewardChange {
  const before = byPicture(group.slice(0, 1).map(({ baseline }) => baseline.pictures), name);
  const after = byPicture(group.map(({ result }) => result.pictures), name);
  const bySeed = group.map(({ result }) =>
    mean(result.pictures.map((p) => (p.scores[name] ?? NaN) - (before.get(keyOf(p)) ?? NaN)))
  );
  const overPictures = [...after].map(([key, value]) => value - (before.get(key) ?? NaN));
  return {
    before: mean([...before.values()]),
    after: mean([...after.values()]),
    change: summarise(bySeed.length >= LEAST_SEEDS ? bySeed : overPictures),
    bySeed,
  };
}

/** Of every reward of pictures. */
function deviationsOf(pictures: readonly MeasuredPicture[]): Readonly<Record<string, number>> {
  return Object.fromEntries(
    Object.keys(pictures[0]?.scores ?? {}).map((name) => [
      name,
      deviation(pictures.map(({ scores }) => scores[name] ?? NaN)),
    ]),
  );
}

const keyOf = ({ prompt, seed }: MeasuredPicture) => `${seed} ${prompt}`;

/** A reward of each picture, mean over runs. */
function byPicture(
  runs: readonly (readonly MeasuredPicture[])[],
  name: string,
): ReadonlyMap<string, number> {
  const groups = Map.groupBy(runs.flat(), keyOf);
  return new Map(
    [...groups].map(([key, own]) => [key, mean(own.map(({ scores }) => scores[name] ?? NaN))]),
  );
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

/** K, m and T of a frozen configuration. */
function quantitiesOf(config: unknown): Readonly<Record<string, number>> {
  const of = (value: unknown, name: string) => isFields(value) ? value[name] : undefined;
  const [method, sampler] = [of(config, "method"), of(config, "sampler")];
  const known = { k: of(method, "k"), m: of(method, "m"), T: of(sampler, "steps") };
  return Object.fromEntries(
    Object.entries(known).flatMap(([name, value]) =>
      typeof value === "number" ? [[name, value]] : []
    ),
  );
}

/** A quantity that curves are drawn over; NaN where the method does not have it. */
export function quantity({ quantities }: Pick<CellSummary, "quantities">, x: string): number {
  const [over = "", under] = x.split("/");
  const value = quantities[over] ?? NaN;
  return under === undefined ? value : value / (quantities[under] ?? NaN);
}
