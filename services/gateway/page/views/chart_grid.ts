import type { Cursor } from "../cursor.ts";
import { h, replace } from "../dom.ts";
import { type ChartData, LineChart, type Series } from "../line_chart.ts";
import type { Run } from "../types.ts";
import { isGoing } from "./state_chip.ts";

/** One chart of several. */
export interface ChartOrder {
  readonly title: string;
  readonly unit?: string;
  /** A line under the title. */
  readonly note?: string;
  readonly series: readonly Series[];
}

/** What charts are made with. */
export interface ChartContext {
  readonly cursor: Cursor;
  readonly signal: AbortSignal;
}

/** Charts that point at the same step, each made when it is first wanted. */
export class ChartGrid {
  readonly element = h("div", { class: "charts" });
  readonly #charts = new Map<string, LineChart>();
  readonly #context: ChartContext;

  constructor(context: ChartContext) {
    this.#context = context;
  }

  /** Shows these, in this order. */
  update(orders: readonly ChartOrder[], look: Omit<ChartData, "series">): void {
    const charts = orders.map(({ title, unit = "", note = "", series }) => {
      const key = `${title} ${unit}`;
      const chart = this.#charts.get(key) ?? new LineChart({ title, unit, ...this.#context });
      this.#charts.set(key, chart);
      chart.note = note;
      chart.update({ series, ...look });
      return chart.element;
    });
    // Put in again, an element would lose the focus.
    const inPlace = charts.length === this.element.children.length &&
      charts.every((chart, i) => chart === this.element.children[i]);
    if (!inPlace) replace(this.element, ...charts);
  }
}

/** The colour of what is no reward. */
export const NEUTRAL = 5;

/** The only curve of a chart. */
export function alone(hue: number, points: Series["points"]): readonly Series[] {
  return [{ name: "", hue, points }];
}

/** Right end of the axis: of a run that goes on what is to be done, or half of it, or a quarter, if that holds all. */
export function axisEnd({ state, iterations }: Run, lastStep: number): number {
  if (!isGoing(state)) return lastStep;
  let end = iterations;
  while (end > 20 && end / 2 > lastStep) end = Math.ceil(end / 2);
  return end;
}
