import type { Cursor } from "../cursor.ts";
import { h, replace } from "../dom.ts";
import { number } from "../format.ts";
import { LineChart } from "../line_chart.ts";
import type { RunHistory } from "../run_history.ts";
import type { RewardTerm, Run, StepEvent } from "../types.ts";
import { mixtureText } from "./mixture_text.ts";
import { isGoing } from "./state_chip.ts";

const SMOOTHING_KEY = "drtune-smoothing";

/** One chart for each reward, the loss and the gradient norm. */
export class RunCharts {
  readonly element = h("div", { class: "charts" });
  readonly controls: HTMLElement;
  readonly #charts = new Map<string, LineChart>();
  readonly #history: RunHistory;
  readonly #cursor: Cursor;
  readonly #signal: AbortSignal;
  #smoothing = Number(localStorage.getItem(SMOOTHING_KEY) ?? 0.6);
  #run: Run | undefined;
  #better: ReadonlyMap<string, string> = new Map();

  constructor(
    { history, cursor, signal }: {
      readonly history: RunHistory;
      readonly cursor: Cursor;
      readonly signal: AbortSignal;
    },
  ) {
    [this.#history, this.#cursor, this.#signal] = [history, cursor, signal];
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
    const terms = new Map(run.rewards.map((term) => [term.name, term]));
    for (const name of this.#history.rewardNames) {
      const term = terms.get(name);
      const chart = this.#draw(name, "reward", ({ rewards }) => rewards[name]?.mean);
      chart.note = term === undefined ? "not in the mixture now" : this.#note(term);
    }
    this.#draw("loss", "", ({ loss }) => loss);
    if (this.#history.steps.some(({ drift }) => drift !== undefined)) {
      this.#draw("drift", "from the frozen model", ({ drift }) => drift);
    }
    this.#draw("gradient norm", "L2, before clipping", ({ gradNorm }) => gradNorm);
  }

  #note({ endpoint, reward = "", weight = 1 }: RewardTerm): string {
    const better = this.#better.get(`${endpoint} ${reward}`);
    return [`weight ${number(weight, 3)}`, better && `${better} is better`].filter(Boolean)
      .join(", ");
  }

  #draw(
    title: string,
    unit: string,
    value: (event: StepEvent) => number | string | undefined,
  ): LineChart {
    // Rewards keep the colours they came with; loss and gradient norm are neutral.
    const isReward = unit === "reward";
    const key = `${unit} ${title}`;
    const chart = this.#charts.get(key) ??
      new LineChart({
        title,
        unit: isReward ? "" : unit,
        hue: isReward ? [...this.#history.rewardNames].indexOf(title) : 5,
        cursor: this.#cursor,
        signal: this.#signal,
      });
    if (!this.#charts.has(key)) {
      this.#charts.set(key, chart);
      // A reward that is swapped in stands beside the others.
      const order = [...this.#charts.keys()].sort((a, b) =>
        Number(b.startsWith("reward ")) - Number(a.startsWith("reward "))
      );
      replace(this.element, ...order.map((name) => this.#charts.get(name)?.element));
    }
    chart.update({
      points: this.#history.curve(value),
      smoothing: this.#smoothing,
      lastStep: isGoing(this.#run?.state ?? "")
        ? this.#run?.iterations ?? 1
        : this.#history.lastStep,
      markers: this.#history.swaps.map(({ step, rewards }) => ({
        step,
        text: "rewards changed",
        label: `After step ${step} the rewards became ${mixtureText(rewards)}`,
      })),
    });
    return chart;
  }
}
