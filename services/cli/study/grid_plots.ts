import {
  type IntervalPanel,
  intervalPlot,
  linePlot,
  type Panel,
  type Series,
  smooth,
} from "../picture/mod.ts";
import { frontierOf } from "./honesty.ts";
import type { Plot } from "./study_schema.ts";
import { type CellSummary, type GridSummary, quantity } from "./summarise_grid.ts";

/** A figure of a grid's results. */
export interface Figure {
  /** Its file's name without an ending. */
  readonly name: string;
  readonly caption: string;
  readonly svg: string;
}

const COLORS = [
  ...["#2b59c3", "#c8431d", "#2f8f4e", "#8a4fbf", "#b8860b", "#0f8b8d", "#c2407a", "#5b6472"],
];
/** Of what training shows of one iteration's images. */
const SMOOTHING = 0.8;

/** The figures that a study's file asks for. */
export function gridFigures(summary: GridSummary, plots: readonly Plot[]): readonly Figure[] {
  return plots.map((plot): Figure => {
    const over = `95 % intervals over ${summary.intervals}`;
    switch (plot.kind) {
      case "rows":
        return {
          name: `${plot.rows}-by-${plot.panels}`,
          caption:
            `The trained reward on the held-out pictures after training; dashed: without LoRA. ${over}, ` +
            "small dots: each training seed.",
          svg: intervalPlot(rowPanels(summary, plot)),
        };
      case "curves":
        return {
          name: `${plot.x.replace("/", "-over-")}-by-${plot.panels}`,
          caption:
            `Change of the trained reward on the held-out pictures against ${plot.x}; pale: ${over}.`,
          svg: linePlot(curvePanels(summary, plot), plot.x),
        };
      case "training":
        return {
          name: `training-by-${plot.panels}`,
          caption:
            "The trained reward of the images that were trained on, smoothed, against compute; a curve a seed.",
          svg: linePlot(trainingPanels(summary, plot), "seconds of compute"),
        };
      case "frontier":
        return {
          name: `frontier-by-${plot.panels}`,
          caption:
            "What judges that are not trained on gained (upwards), mean over them, against what the trained reward gained, both " +
            "in standard deviations of the pictures without LoRA: the measurements of a run's panel that no other is better than " +
            "in both; a curve a seed.",
          svg: linePlot(frontierPanels(summary, plot), "trained reward, standard deviations"),
        };
    }
  });
}

function panelsOf<T>(
  { cells }: GridSummary,
  axis: string,
  make: (cells: readonly CellSummary[], title: string) => T,
): readonly T[] {
  return [...Map.groupBy(cells, ({ cell }) => cell[axis] ?? "")].map(([value, own]) => {
    const [first] = own;
    const better = first?.isUp ? "higher is better" : "lower is better";
    const name = value === first?.target || first === undefined
      ? value
      : `${value}: ${first.target}`;
    return make(own, `${name} (${better})`);
  });
}

function rowPanels(
  summary: GridSummary,
  { rows, panels }: Extract<Plot, { kind: "rows" }>,
): readonly IntervalPanel[] {
  const shown = new Set([rows, panels]);
  return panelsOf(summary, panels, (cells, title): IntervalPanel => {
    const [first] = cells;
    const base = first?.rewards[first.target]?.before;
    return {
      title,
      ...(base !== undefined && { line: base }),
      rows: cells.flatMap(({ cell, target, rewards }) => {
        const found = rewards[target];
        if (found === undefined) return [];
        const { before, change: { mean, low, high }, bySeed } = found;
        const others = Object.entries(cell).filter(([axis]) => !shown.has(axis));
        return [{
          name: [cell[rows], ...others.map(([, value]) => value)].join(" "),
          ...{ mean: before + mean, low: before + low, high: before + high },
          marks: bySeed.length < 2 ? [] : bySeed.map((v) => before + v),
        }];
      }),
    };
  });
}

function curvePanels(
  summary: GridSummary,
  { x, curves, panels }: Extract<Plot, { kind: "curves" }>,
): readonly Panel[] {
  return panelsOf(summary, panels, (cells, title): Panel => ({
    title,
    series: [...Map.groupBy(cells, ({ cell }) => cell[curves] ?? "")].flatMap(
      ([name, own], i): Series[] => {
        const color = COLORS[i % COLORS.length] ?? "";
        const points = own.flatMap((cell) => {
          const [at, found] = [quantity(cell, x), cell.rewards[cell.target]];
          return Number.isFinite(at) && found ? [{ at, ...found.change }] : [];
        }).sort((a, b) => a.at - b.at);
        const bound = (end: "low" | "high"): Series => ({
          name: "",
          color: `${color}44`,
          points: points.map((p) => [p.at, p[end]]),
        });
        const line = { name: `${curves} ${name}`, color };
        return [
          ...[bound("low"), bound("high")],
          { ...line, points: points.map(({ at, mean }) => [at, mean]) },
        ];
      },
    ),
  }));
}

function frontierPanels(
  summary: GridSummary,
  { curves, panels }: Extract<Plot, { kind: "frontier" }>,
): readonly Panel[] {
  return panelsOf(summary, panels, (cells, title): Panel => ({
    title: title.replace(/ \(.*$/, ""),
    series: cells.flatMap((own, i) =>
      own.honesty.map(({ standings }, seed): Series => ({
        name: seed === 0 ? own.cell[curves] ?? "" : "",
        color: COLORS[i % COLORS.length] ?? "",
        points: frontierOf(standings).map(({ trained, judged }) => [trained, judged]),
      }))
    ),
  }));
}

function trainingPanels(
  summary: GridSummary,
  { curves, panels }: Extract<Plot, { kind: "training" }>,
): readonly Panel[] {
  return panelsOf(summary, panels, (cells, title): Panel => ({
    title,
    series: cells.flatMap((own, i) =>
      own.curves.map((curve, seed): Series => {
        const values = smooth(curve.map(({ rewards }) => rewards[own.target] ?? NaN), SMOOTHING);
        return {
          name: seed === 0 ? own.cell[curves] ?? "" : "",
          color: COLORS[i % COLORS.length] ?? "",
          points: curve.map(({ compute }, at) => [compute, values[at] ?? NaN]),
        };
      })
    ),
  }));
}
