import { number } from "../format.ts";
import { curve, type RunHistory } from "../run_history.ts";
import type { RewardTerm, Run } from "../types.ts";
import {
  alone,
  axisEnd,
  type ChartContext,
  ChartGrid,
  type ChartOrder,
  NEUTRAL,
} from "./chart_grid.ts";
import { mixtureText } from "./mixture_text.ts";
import { smoothingControl } from "./smoothing.ts";

/** One chart for each reward, the loss and the gradient norm. */
export class RunCharts {
  readonly element: HTMLElement;
  readonly controls: HTMLElement;
  readonly #grid: ChartGrid;
  readonly #history: RunHistory;
  readonly #smoothing = smoothingControl(() => this.#run && this.update(this.#run));
  #run: Run | undefined;
  #better: ReadonlyMap<string, string> = new Map();

  constructor(history: RunHistory, context: ChartContext) {
    this.#history = history;
    this.#grid = new ChartGrid(context);
    this.element = this.#grid.element;
    this.controls = this.#smoothing.element;
  }

  /** @param better "smaller" or "larger" by "HOST:PORT NAME", where it is known */
  update(run: Run, better = this.#better): void {
    [this.#run, this.#better] = [run, better];
    const history = this.#history;
    const terms = new Map(run.rewards.map((term) => [term.name, term]));
    const drifts = curve(history.steps, ({ drift }) => drift);
    // Rewards keep the colours they came with; loss and gradient norm are neutral.
    const orders: ChartOrder[] = [
      ...[...history.rewardNames].map((title, hue) => ({
        title,
        note: this.#note(terms.get(title)),
        series: alone(hue, curve(history.steps, ({ rewards }) => rewards[title]?.mean)),
      })),
      {
        title: "loss",
        unit: "minimised",
        series: alone(NEUTRAL, curve(history.steps, ({ loss }) => loss)),
      },
      ...(drifts.length > 0
        ? [{ title: "drift", unit: "from the frozen model", series: alone(NEUTRAL, drifts) }]
        : []),
      {
        title: "gradient norm",
        unit: "L2, before clipping",
        series: alone(NEUTRAL, curve(history.steps, ({ gradNorm }) => gradNorm)),
      },
    ];
    this.#grid.update(orders, {
      lastStep: axisEnd(run, history.lastStep),
      smoothing: this.#smoothing.value,
      markers: [
        ...history.swaps.map(({ step, rewards }) => ({
          step,
          text: "rewards changed",
          label: `After step ${step} the rewards became ${mixtureText(rewards)}`,
        })),
        ...history.digests.map(({ step, reward }) => ({
          step,
          text: "other weights",
          label: `After step ${step} ${reward} answered with other weights`,
        })),
      ],
    });
  }

  #note(term: RewardTerm | undefined): string {
    if (term === undefined) return "not in the mixture now";
    const { endpoint, reward = "", weight = 1 } = term;
    const better = this.#better.get(`${endpoint} ${reward}`);
    return [`weight ${number(weight, 3)}`, better && `${better} is better`].filter(Boolean)
      .join(", ");
  }
}
