import { h, say } from "../dom.ts";
import { curve, type RunHistory } from "../run_history.ts";
import type { Run } from "../types.ts";
import { alone, axisEnd, type ChartContext, ChartGrid, NEUTRAL } from "./chart_grid.ts";

/** The panel: rewards on fixed prompts, among them such as are not trained on, and how different the images are. */
export class PanelCharts {
  readonly element: HTMLElement;
  readonly #alarm = h("p", { class: "alarm", role: "status", hidden: true });
  readonly #grid: ChartGrid;
  readonly #history: RunHistory;

  constructor(history: RunHistory, context: ChartContext) {
    this.#history = history;
    this.#grid = new ChartGrid(context);
    this.element = h(
      "section",
      { "aria-label": "Panel", hidden: true },
      h("h2", {}, "Panel"),
      h("p", { class: "sub" }, "Fixed prompts at fixed seeds; what is held out is not trained on."),
      this.#alarm,
      this.#grid.element,
    );
  }

  update(run: Run): void {
    const { panels, rewardNames } = this.#history;
    const last = panels.at(-1);
    this.element.hidden = last === undefined;
    if (last === undefined) return;
    this.#alarm.hidden = last.alarm === "";
    say(this.#alarm, `Alarm after step ${last.step}: ${last.alarm}`);
    const names = [...new Set(panels.flatMap(({ rewards }) => Object.keys(rewards)))];
    // What is held out is what the panel is for.
    const heldOut = (name: string) => last.heldOut.includes(name);
    names.sort((a, b) => Number(heldOut(b)) - Number(heldOut(a)));
    const hues = [...rewardNames];
    this.#grid.update([
      ...names.map((title) => ({
        title,
        note: heldOut(title) ? "held out" : "trained on",
        // A reward that is trained on has its colour; the others are told apart by their names.
        series: alone(
          hues.includes(title) ? hues.indexOf(title) : NEUTRAL,
          curve(panels, ({ rewards }) => rewards[title]?.mean),
        ),
      })),
      {
        title: "diversity",
        note: "mean distance of two images",
        series: alone(NEUTRAL, curve(panels, ({ diversity }) => diversity)),
      },
    ], {
      lastStep: axisEnd(run, this.#history.lastStep),
      smoothing: 0,
      markers: panels.filter(({ alarm }) => alarm !== "")
        .map(({ step, alarm }) => ({ step, label: alarm, text: "alarm" })),
    });
  }
}
