import { Cursor } from "../cursor.ts";
import { h } from "../dom.ts";
import type { Series } from "../line_chart.ts";
import { curve } from "../run_history.ts";
import { ChartGrid, type ChartOrder } from "../views/chart_grid.ts";
import { smoothingControl } from "../views/smoothing.ts";
import type { ComparedRun } from "./compared_run.ts";

/** Curves of several runs, a chart for each reward, measured by each panel, and for the loss. */
export class OverlayCharts {
  readonly element: HTMLElement;
  readonly #grid: ChartGrid;
  readonly #smoothing = smoothingControl(() => this.#draw());
  #runs: readonly ComparedRun[] = [];
  #better: ReadonlyMap<string, string> = new Map();

  constructor(signal: AbortSignal) {
    this.#grid = new ChartGrid({ cursor: new Cursor(), signal });
    this.element = h("div", {}, this.#smoothing.element, this.#grid.element);
  }

  /** @param better "smaller" or "larger" by reward, where it is known */
  update(runs: readonly ComparedRun[], better: ReadonlyMap<string, string>): void {
    [this.#runs, this.#better] = [runs, better];
    this.#draw();
  }

  #draw(): void {
    const runs = this.#runs;
    const seriesOf = (points: (run: ComparedRun) => Series["points"]): Series[] =>
      runs.map((one, hue) => ({ name: one.run.id, hue, points: points(one) }))
        .filter(({ points }) => points.length > 0);
    const names = new Set(runs.flatMap(({ history }) => [...history.rewardNames]));
    const panelNames = new Set(
      runs.flatMap(({ history }) => history.panels.flatMap(({ rewards }) => Object.keys(rewards))),
    );
    const note = (name: string) => {
      const better = this.#better.get(name);
      return better === undefined ? "" : `${better} is better`;
    };
    const orders: ChartOrder[] = [
      ...[...names].map((title) => ({
        title,
        note: note(title),
        series: seriesOf(({ history }) =>
          curve(history.steps, ({ rewards }) => rewards[title]?.mean)
        ),
      })),
      ...[...panelNames].map((title) => ({
        title,
        unit: "on the panel",
        note: note(title),
        series: seriesOf(({ history }) =>
          curve(history.panels, ({ rewards }) => rewards[title]?.mean)
        ),
      })),
      {
        title: "diversity",
        unit: "on the panel",
        series: seriesOf(({ history }) => curve(history.panels, ({ diversity }) => diversity)),
      },
      {
        title: "loss",
        unit: "minimised",
        series: seriesOf(({ history }) => curve(history.steps, ({ loss }) => loss)),
      },
    ];
    this.#grid.update(orders.filter(({ series }) => series.length > 0), {
      lastStep: Math.max(0, ...runs.map(({ history }) => history.lastStep)),
      smoothing: this.#smoothing.value,
      markers: [],
    });
  }
}
