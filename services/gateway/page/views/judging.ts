import { BlindComparison, type Choice, type Side } from "../blind_comparison.ts";
import { faultText } from "../dialog.ts";
import { button, h, replace } from "../dom.ts";
import { imageUrl, sampledImages } from "../sampled_images.ts";
import type { SampledImage } from "../types.ts";
import { type CompareOrder, SIDES } from "./compare_order.ts";

/** Shows pair after pair as they are drawn, and takes the votes. */
export class Judging {
  readonly element: HTMLElement;
  readonly #order: CompareOrder;
  readonly #comparison = new BlindComparison<SampledImage>();
  readonly #signal: AbortSignal;
  readonly #onDone: (comparison: BlindComparison<SampledImage>) => void;
  readonly #stage = h("div", { class: "pair" });
  readonly #prompt = h("p", { class: "pair-prompt" });
  readonly #status = h("p", { class: "sub", role: "status" });
  readonly #buttons: readonly HTMLButtonElement[];
  readonly #undo: HTMLButtonElement;
  readonly #end: HTMLButtonElement;
  #drawn = false;
  #fault = "";

  constructor(
    order: CompareOrder,
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
    this.#end = button("Finish", () => this.#finish(), { class: "small" });
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
          this.#end,
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
    this.#undo.disabled = this.#end.disabled = judged === 0;
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
