import {
  BlindComparison,
  type Choice,
  parsePrompts,
  type Side,
  type Tally,
} from "../blind_comparison.ts";
import { faultText } from "../dialog.ts";
import { button, field, h, replace } from "../dom.ts";
import { percent } from "../format.ts";
import { imageUrl, sampledImages } from "../sampled_images.ts";
import type { Run, SampledImage } from "../types.ts";
import { checkpointSelect } from "./sample_dialog.ts";
import type { View, ViewContext } from "./view.ts";

/** What stands on one side. */
interface Contestant {
  readonly runId: string;
  readonly step: number;
}

const SIDES = ["A", "B"] as const;

/** A blind comparison of two checkpoints or models by somebody who looks: the paper's user study for one. */
export function compareView({ overview, params, signal }: ViewContext): View {
  const body = h("div", {});
  const setup = new Setup(params[0], { signal, onStart: (order) => judge(order) });
  const refresh = () => setup.update(overview.newestFirst, overview.ready);
  overview.addEventListener("change", refresh, { signal });
  refresh();
  let study = new AbortController();
  signal.addEventListener("abort", () => study.abort());
  const again = () => {
    study.abort();
    replace(body, setup.element);
  };
  const judge = (order: Order) => {
    study.abort();
    study = new AbortController();
    const judging = new Judging(order, {
      signal: study.signal,
      onDone: (comparison) => replace(body, results(comparison, order, again)),
      onQuit: again,
    });
    replace(body, judging.element);
    judging.element.focus();
  };
  replace(body, setup.element);
  return {
    title: "Compare",
    content: [h("div", { class: "page-head" }, h("h1", {}, "Compare")), body],
  };
}

/** What is compared, on what. */
interface Order {
  readonly contestants: Readonly<Record<Side, Contestant>>;
  readonly prompts: readonly { readonly prompt: string; readonly category: string }[];
  readonly seed: number;
  readonly imagesPerPrompt: number;
}

/** The form that says what to compare. */
class Setup {
  readonly element: HTMLElement;
  readonly #sides: Readonly<Record<Side, HTMLElement>> = { A: h("div", {}), B: h("div", {}) };
  readonly #chosen: Record<Side, () => Contestant | undefined> = {
    A: () => undefined,
    B: () => undefined,
  };
  readonly #preset: string | undefined;
  #shown = "";

  constructor(
    preset: string | undefined,
    { onStart }: { readonly signal: AbortSignal; readonly onStart: (order: Order) => void },
  ) {
    this.#preset = preset;
    const prompts = h("textarea", {
      rows: 8,
      placeholder: "# animals\na fox in the snow\nan owl, woodcut\n# places\na lighthouse at dusk",
    });
    const seed = h("input", { type: "number", min: 0, max: 2 ** 32 - 1, value: 0 });
    const each = h("input", { type: "number", min: 1, max: 64, value: 1 });
    const fault = h("p", { class: "fault", role: "alert" });
    const start = () => {
      const [A, B] = [this.#chosen.A(), this.#chosen.B()];
      replace(fault);
      if (A === undefined || B === undefined) return replace(fault, "Choose two to compare.");
      if (A.runId === B.runId && A.step === B.step) {
        return replace(fault, "Both are the same: every difference would be chance.");
      }
      onStart({
        contestants: { A, B },
        prompts: parsePrompts(prompts.value),
        seed: seed.valueAsNumber,
        imagesPerPrompt: each.valueAsNumber,
      });
    };
    this.element = h(
      "div",
      { class: "narrow" },
      h(
        "p",
        {},
        "Both draw the same prompts at the same seeds. You see each pair without knowing which is which, say which is better, and get the win rate with its confidence interval.",
      ),
      h("div", { class: "row" }, this.#sides.A, this.#sides.B),
      field(
        "Prompts",
        prompts,
        "One a line; a line that begins with # names the category of those that follow. None: the held-out prompts of each run.",
      ),
      h("div", { class: "row" }, field("First seed", seed), field("Images per prompt", each)),
      fault,
      h("div", { class: "actions" }, button("Begin", start, { class: "primary" })),
    );
  }

  update(runs: readonly Run[], ready: boolean): void {
    const usable = runs.map(({ id, checkpoints }) => `${id} ${checkpoints.join(" ")}`);
    const now = JSON.stringify([usable, ready]);
    // What somebody has chosen stays: drawn anew only when there is something new to choose.
    if (now === this.#shown) return;
    this.#shown = now;
    for (const side of SIDES) this.#fill(side, runs, ready);
  }

  #fill(side: Side, runs: readonly Run[], ready: boolean): void {
    const before = this.#chosen[side]();
    if (runs.length === 0) {
      replace(this.#sides[side], h("p", { class: "empty" }, ready ? "No runs yet." : "Loading…"));
      this.#chosen[side] = () => undefined;
      return;
    }
    const run = h("select", {}, ...runs.map(({ id }) => h("option", { value: id }, id)));
    run.value = before?.runId ?? runs.find(({ id }) => id === this.#preset)?.id ?? runs[0]?.id ??
      "";
    const place = h("div", {});
    const choose = (wanted: number | undefined) => {
      const chosen = runs.find(({ id }) => id === run.value);
      if (chosen === undefined) return;
      const step = checkpointSelect(chosen, `Weights of ${side}`);
      // As it was against as it is now.
      step.value = String(wanted ?? (side === "A" ? 0 : chosen.checkpoints.at(-1) ?? 0));
      if (step.value === "") step.value = "0";
      replace(place, step);
      this.#chosen[side] = () => ({ runId: run.value, step: Number(step.value) });
    };
    run.addEventListener("change", () => choose(undefined));
    choose(before?.step);
    replace(this.#sides[side], field(`Run of ${side}`, run), place);
  }
}

/** Shows pair after pair as they are drawn, and takes the votes. */
class Judging {
  readonly element: HTMLElement;
  readonly #order: Order;
  readonly #comparison = new BlindComparison<SampledImage>();
  readonly #signal: AbortSignal;
  readonly #onDone: (comparison: BlindComparison<SampledImage>) => void;
  readonly #stage = h("div", { class: "pair" });
  readonly #prompt = h("p", { class: "pair-prompt" });
  readonly #status = h("p", { class: "sub", role: "status" });
  readonly #buttons: readonly HTMLButtonElement[];
  readonly #undo: HTMLButtonElement;
  #drawn = false;
  #fault = "";

  constructor(
    order: Order,
    { signal, onDone, onQuit }: {
      readonly signal: AbortSignal;
      readonly onDone: (comparison: BlindComparison<SampledImage>) => void;
      readonly onQuit: () => void;
    },
  ) {
    [this.#order, this.#signal, this.#onDone] = [order, signal, onDone];
    const vote = (label: string, choice: Choice, keys: string) =>
      button(label, () => this.#vote(choice), { "aria-keyshortcuts": keys });
    this.#buttons = [
      vote("← Left is better", "left", "ArrowLeft"),
      vote("Neither", "tie", "ArrowDown"),
      vote("Right is better →", "right", "ArrowRight"),
    ];
    this.#undo = button("Undo", () => {
      this.#comparison.undo();
      this.#show();
    }, { class: "small", "aria-keyshortcuts": "Backspace" });
    this.element = h(
      "section",
      { class: "judging", tabindex: -1, "aria-label": "Which is better?" },
      this.#prompt,
      this.#stage,
      h("div", { class: "votes" }, ...this.#buttons),
      h(
        "div",
        { class: "actions spread" },
        this.#status,
        h(
          "span",
          {},
          this.#undo,
          button("Finish", () => this.#finish(), { class: "small" }),
          button("Give up", onQuit, { class: "small" }),
        ),
      ),
    );
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
    void this.#draw();
    this.#show();
  }

  /** Draws both sides at once and pairs what belongs together. */
  async #draw(): Promise<void> {
    const { contestants, prompts, seed, imagesPerPrompt } = this.#order;
    const categories = new Map(prompts.map(({ prompt, category }) => [prompt, category]));
    const waiting: Record<Side, Map<string, SampledImage>> = { A: new Map(), B: new Map() };
    const draw = async (side: Side) => {
      const other = side === "A" ? "B" : "A";
      const order = {
        ...contestants[side],
        prompts: prompts.map(({ prompt }) => prompt),
        seed,
        imagesPerPrompt,
      };
      for await (const image of sampledImages(order, this.#signal)) {
        const key = `${image.seed} ${image.prompt}`;
        const match = waiting[other].get(key);
        if (match === undefined) {
          waiting[side].set(key, image);
          continue;
        }
        waiting[other].delete(key);
        this.#comparison.add({
          prompt: image.prompt,
          category: categories.get(image.prompt) ?? "all",
          images: side === "A" ? { A: image, B: match } : { A: match, B: image },
        });
        this.#show();
      }
    };
    try {
      await Promise.all(SIDES.map(draw));
      if (waiting.A.size + waiting.B.size > 0) {
        this.#fault =
          "The held-out prompts of the two runs differ: only those in both are compared.";
      }
    } catch (error) {
      if (this.#signal.aborted) return;
      this.#fault = faultText(error);
    }
    this.#drawn = true;
    this.#show();
  }

  #vote(choice: Choice): void {
    if (this.#comparison.current === undefined) return;
    this.#comparison.vote(choice);
    this.#show();
  }

  #key(event: KeyboardEvent): void {
    if (event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement) {
      return;
    }
    const choices: Readonly<Record<string, Choice>> = {
      ArrowLeft: "left",
      ArrowRight: "right",
      ArrowDown: "tie",
    };
    const choice = choices[event.key];
    if (choice !== undefined && !event.repeat) {
      event.preventDefault();
      this.#vote(choice);
    } else if (event.key === "Backspace") {
      this.#comparison.undo();
      this.#show();
    }
  }

  #finish(): void {
    if (this.#comparison.judged > 0) this.#onDone(this.#comparison);
  }

  #show(): void {
    const { current, judged, pairs } = this.#comparison;
    if (current === undefined && this.#drawn && judged > 0) return this.#finish();
    const text = this.#drawn
      ? `${judged} of ${pairs.length} judged`
      : `${judged} judged, ${pairs.length} drawn so far`;
    replace(
      this.#status,
      this.#fault !== "" && h("span", { class: "fault" }, `${this.#fault} `),
      text,
    );
    for (const button of this.#buttons) button.disabled = current === undefined;
    this.#undo.disabled = judged === 0;
    if (current === undefined) {
      replace(
        this.#prompt,
        this.#drawn ? "There is nothing to compare." : "Drawing the next pair…",
      );
      return replace(
        this.#stage,
        h("div", { class: "frame waiting" }),
        h("div", { class: "frame waiting" }),
      );
    }
    const right = current.left === "A" ? "B" : "A";
    const key = `${judged} of ${pairs.length}`;
    if (this.#stage.dataset["pair"] === `${judged}`) return;
    this.#stage.dataset["pair"] = `${judged}`;
    replace(this.#prompt, current.prompt);
    replace(
      this.#stage,
      ...([current.left, right] as const).map((side, i) =>
        h(
          "div",
          { class: "frame" },
          h("img", {
            src: imageUrl(current.images[side], this.#signal),
            alt: `${i === 0 ? "Left" : "Right"} image, pair ${key}`,
          }),
        )
      ),
    );
  }
}

/** Which was which, and how often it won. */
function results(
  comparison: BlindComparison<SampledImage>,
  order: Order,
  again: () => void,
): HTMLElement {
  const tallies = comparison.tallies();
  const all = tallies.at(-1);
  const name = ({ runId, step }: Contestant) =>
    `${runId}, ${step === 0 ? "without LoRA" : `checkpoint ${step}`}`;
  const save = () => {
    const { contestants, seed, imagesPerPrompt } = order;
    const text = JSON.stringify(
      { contestants, seed, imagesPerPrompt, votes: comparison.votes(), tallies },
      null,
      2,
    );
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    h("a", { href: url, download: "comparison.json" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  };
  return h(
    "div",
    { class: "narrow results" },
    h(
      "dl",
      { class: "facts" },
      ...SIDES.flatMap((side) => [h("dt", {}, side), h("dd", {}, name(order.contestants[side]))]),
    ),
    all && h("p", { class: "verdict" }, verdict(all)),
    h(
      "table",
      { class: "plain" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ...["Category", "A wins", "Ties", "B wins", "B’s win rate", "95 % interval"].map((text) =>
            h("th", { scope: "col" }, text)
          ),
        ),
      ),
      h("tbody", {}, ...tallies.map(tallyRow)),
    ),
    h(
      "p",
      { class: "sub" },
      "Win rate among pairs with a preference; ties are left out. Wilson’s interval; the line is one half.",
    ),
    h(
      "div",
      { class: "actions" },
      button("Save votes", save),
      button("Compare again", again, { class: "primary" }),
    ),
  );
}

function tallyRow({ category, A, B, ties, share, low, high }: Tally): HTMLElement {
  const bar = h(
    "span",
    { class: "interval", "aria-hidden": "true" },
    h("span", { class: "range" }),
    h("span", { class: "at" }),
  );
  bar.style.setProperty("--low", percentCss(low));
  bar.style.setProperty("--high", percentCss(high));
  bar.style.setProperty("--share", percentCss(share));
  const known = A + B > 0;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, category),
    h("td", { class: "num" }, A),
    h("td", { class: "num" }, ties),
    h("td", { class: "num" }, B),
    h("td", { class: "num" }, known ? percent(share) : "–"),
    h(
      "td",
      {},
      known && h("span", { class: "num" }, `${percent(low)} to ${percent(high)}`),
      known && bar,
    ),
  );
}

const percentCss = (share: number) => `${100 * share}%`;

/** What the votes allow to be said. */
function verdict({ A, B, low, high, share }: Tally): string {
  if (A + B === 0) return "No preference.";
  const rate = `B won ${B} of ${A + B} (${percent(share)})`;
  if (low > 0.5) return `${rate}: better than A at 95 % confidence.`;
  if (high < 0.5) return `${rate}: worse than A at 95 % confidence.`;
  return `${rate}: too few votes, or too little difference, to tell them apart.`;
}
