import { h, replace } from "../dom.ts";
import { number } from "../format.ts";
import { curve, type RunHistory } from "../run_history.ts";
import type { RewardTerm, Run } from "../types.ts";
import { type ChartContext, ChartGrid, type ChartOrder } from "./chart_grid.ts";
import { mixtureText } from "./mixture_text.ts";

const SMOOTHING_KEY = "drtune-smoothing";

/** One chart for each reward, the loss and the gradient norm. */
export class RunCharts {
  readonly element: HTMLElement;
  readonly controls: HTMLElement;
  readonly #grid: ChartGrid;
  readonly #history: RunHistory;
  #smoothing = Number(localStorage.getItem(SMOOTHING_KEY) ?? 0.6);
  #run: Run | undefined;
  #better: ReadonlyMap<string, string> = new Map();

  constructor(context: ChartContext) {
    this.#history = context.history;
    this.#grid = new ChartGrid(context);
    this.element = this.#grid.element;
    const value = h("output", { class: "num" });
    const show = () => replace(value, this.#smoothing.toFixed(2));
    const slider = h("input", {
      type: "range",
      min: 0,
      max: 0.99,
      step: 0.01,
      value: this.#smoothing,
      oninput: () => {
        this.#smoothing = slider.valueAsNumber;
        localStorage.setItem(SMOOTHING_KEY, String(this.#smoothing));
        show();
        if (this.#run) this.update(this.#run);
      },
    });
    show();
    this.controls = h("label", { class: "inline" }, h("span", {}, "Smoothing"), slider, value);
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
        hue,
        note: this.#note(terms.get(title)),
        points: curve(history.steps, ({ rewards }) => rewards[title]?.mean),
      })),
      {
        title: "loss",
        unit: "minimised",
        hue: 5,
        points: curve(history.steps, ({ loss }) => loss),
      },
      ...(drifts.length > 0
        ? [{ title: "drift", unit: "from the frozen model", hue: 5, points: drifts }]
        : []),
      {
        title: "gradient norm",
        unit: "L2, before clipping",
        hue: 5,
        points: curve(history.steps, ({ gradNorm }) => gradNorm),
      },
    ];
    this.#grid.update(run, orders, {
      smoothing: this.#smoothing,
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
