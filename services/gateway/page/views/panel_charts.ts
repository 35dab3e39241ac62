import type { Cursor } from "../cursor.ts";
import { h, replace } from "../dom.ts";
import { LineChart, type Point } from "../line_chart.ts";
import type { RunHistory } from "../run_history.ts";
import type { PanelEvent, Run } from "../types.ts";
import { isGoing } from "./state_chip.ts";

/** The panel: rewards on fixed prompts, among them such as are not trained on, and how different the images are. */
export class PanelCharts {
  readonly element: HTMLElement;
  readonly #grid = h("div", { class: "charts" });
  readonly #alarm = h("p", { class: "alarm", role: "status", hidden: true });
  readonly #charts = new Map<string, LineChart>();
  readonly #history: RunHistory;
  readonly #cursor: Cursor;
  readonly #signal: AbortSignal;

  constructor(
    { history, cursor, signal }: {
      readonly history: RunHistory;
      readonly cursor: Cursor;
      readonly signal: AbortSignal;
    },
  ) {
    [this.#history, this.#cursor, this.#signal] = [history, cursor, signal];
    this.element = h(
      "section",
      { "aria-label": "Panel", hidden: true },
      h("h2", {}, "Panel"),
      h("p", { class: "sub" }, "Fixed prompts at fixed seeds; what is held out is not trained on."),
      this.#alarm,
      this.#grid,
    );
  }

  update(run: Run): void {
    const { panels } = this.#history;
    const last = panels.at(-1);
    this.element.hidden = last === undefined;
    if (last === undefined) return;
    this.#alarm.hidden = last.alarm === "";
    replace(this.#alarm, `Alarm after step ${last.step}: ${last.alarm}`);
    const names = [...new Set(panels.flatMap(({ rewards }) => Object.keys(rewards)))];
    // What is held out is what the panel is for.
    const heldOut = (name: string) => last.heldOut.includes(name);
    names.sort((a, b) => Number(heldOut(b)) - Number(heldOut(a)));
    for (const name of names) {
      const chart = this.#draw(name, run, ({ rewards }) => rewards[name]?.mean);
      chart.note = heldOut(name) ? "held out" : "trained on";
    }
    this.#draw("diversity", run, ({ diversity }) => diversity).note = "mean distance of two images";
  }

  #draw(
    title: string,
    run: Run,
    value: (event: PanelEvent) => number | string | undefined,
  ): LineChart {
    const known = this.#charts.get(title);
    const hue = [...this.#history.rewardNames].indexOf(title);
    const chart = known ??
      new LineChart({
        title,
        unit: "",
        // A reward that is trained on has its colour; the others are told apart by their names.
        hue: hue < 0 ? 5 : hue,
        cursor: this.#cursor,
        signal: this.#signal,
      });
    if (known === undefined) {
      this.#charts.set(title, chart);
      this.#grid.append(chart.element);
    }
    const points = this.#history.panels.flatMap((event): Point[] => {
      const found = value(event);
      return found === undefined ? [] : [[event.step, Number(found)]];
    });
    chart.update({
      points,
      smoothing: 0,
      lastStep: isGoing(run.state) ? run.iterations : this.#history.lastStep,
      markers: this.#history.panels.filter(({ alarm }) => alarm !== "")
        .map(({ step, alarm }) => ({ step, label: alarm, text: "alarm" })),
    });
    return chart;
  }
}
