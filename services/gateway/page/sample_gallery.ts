import { imagePath, type Images } from "./api.ts";
import { button, h, replace } from "./dom.ts";
import { number } from "./format.ts";
import { openViewer, type ViewedImage } from "./image_viewer.ts";
import type { RunHistory, SampledStep } from "./run_history.ts";
import type { SampleReference } from "./types.ts";

/** A tile of the grid: one prompt at one seed. */
interface Tile {
  readonly element: HTMLElement;
  readonly before: HTMLImageElement;
  readonly after: HTMLImageElement;
  readonly scores: HTMLElement;
}

/** Pixels that a pointer may move in a click. */
const STILL = 4;

/**
 * The samples of a run over time: the same prompts and seeds, with a scrubber over the steps. A slider uncovers the
 * first samples over the chosen ones, in all tiles at once. A click enlarges an image.
 */
export class SampleGallery {
  readonly element: HTMLElement;
  readonly #runId: string;
  readonly #images: Images;
  readonly #grid = h("div", { class: "samples" });
  readonly #steps: HTMLInputElement;
  readonly #stepLabel = h("output", { class: "scrub-value" });
  readonly #wipe: HTMLInputElement;
  readonly #wipeLabel = h("span", {});
  readonly #controls: HTMLElement;
  readonly #empty = h("p", { class: "empty" }, "No samples yet.");
  readonly #tiles = new Map<string, Tile>();
  #samples: readonly SampledStep[] = [];
  /** The newest samples are shown as they come until somebody moves the scrubber away from them. */
  #newest = true;

  constructor(runId: string, images: Images) {
    [this.#runId, this.#images] = [runId, images];
    this.#steps = h("input", {
      type: "range",
      min: 0,
      max: 0,
      step: 1,
      "aria-label": "Samples of step",
      oninput: () => {
        this.#newest = this.#steps.valueAsNumber === this.#samples.length - 1;
        this.#render();
      },
    });
    this.#wipe = h("input", {
      type: "range",
      min: 0,
      max: 100,
      value: 0,
      oninput: () => this.#setWipe(this.#wipe.valueAsNumber),
    });
    this.#controls = h(
      "div",
      { class: "scrub", hidden: true },
      h("label", {}, h("span", {}, "Step"), this.#steps, this.#stepLabel),
      h("label", {}, this.#wipeLabel, this.#wipe),
    );
    this.element = h("div", {}, this.#controls, this.#empty, this.#grid);
    this.#setWipe(0);
    let [from, moved] = [0, false];
    this.#grid.addEventListener("pointerdown", (event) => [from, moved] = [event.clientX, false]);
    this.#grid.addEventListener("pointermove", (event) => {
      moved ||= Math.abs(event.clientX - from) > STILL;
      if (moved) this.#drag(event);
    });
    this.#grid.addEventListener("click", (event) => {
      const frame = event.target instanceof Element ? event.target.closest(".frame") : null;
      // Who has dragged to uncover has not asked for more.
      if (frame !== null && (!moved || event.detail === 0)) this.#enlarge(frame);
    });
  }

  /** All samples of all steps, beginning at the one in a frame. */
  #enlarge(frame: Element): void {
    const [key] = [...this.#tiles].find(([, { element }]) => element.contains(frame)) ?? [];
    if (key === undefined) return;
    const rows = this.#samples.map(({ step, samples }) => ({
      label: `step ${step}`,
      images: samples.map((sample) => this.#viewed(sample, step)),
    }));
    openViewer(rows, { row: this.#steps.valueAsNumber, key });
  }

  #viewed(sample: SampleReference, step: number): ViewedImage {
    const { prompt, seed, path, rewards } = sample;
    return {
      key: keyOf(sample),
      prompt,
      detail: `seed ${seed}, step ${step}`,
      scores: Object.fromEntries(
        Object.entries(rewards).map(([name, value]) => [name, Number(value)]),
      ),
      show: (image) => this.#images.show(image, imagePath(this.#runId, path)),
    };
  }

  update(history: RunHistory, sampleEvery: number): void {
    this.#samples = history.samples;
    const last = Math.max(0, this.#samples.length - 1);
    this.#steps.max = String(last);
    if (this.#newest) this.#steps.value = String(last);
    this.#controls.hidden = this.#samples.length === 0;
    this.#empty.hidden = this.#samples.length > 0;
    replace(
      this.#empty,
      sampleEvery > 0
        ? `No samples yet. The held-out prompts are drawn every ${sampleEvery} steps.`
        : "This run draws no samples (sampleEvery is 0).",
    );
    this.#render();
  }

  #render(): void {
    const chosen = this.#samples[this.#steps.valueAsNumber];
    const first = this.#samples[0];
    if (chosen === undefined || first === undefined) return;
    replace(this.#stepLabel, `step ${chosen.step}`);
    replace(this.#wipeLabel, `Uncover step ${first.step}`);
    this.#steps.setAttribute("aria-valuetext", `step ${chosen.step}`);
    const sameOf = new Map(first.samples.map((sample) => [keyOf(sample), sample]));
    const tiles = chosen.samples.map((sample) => {
      const key = keyOf(sample);
      const tile = this.#tiles.get(key) ?? makeTile(sample);
      this.#tiles.set(key, tile);
      this.#show(tile.after, sample, chosen.step);
      this.#show(tile.before, sameOf.get(key) ?? sample, first.step);
      replace(
        tile.scores,
        ...Object.entries(sample.rewards).map(([name, value]) =>
          h("span", { class: "score" }, `${name} `, h("b", {}, number(Number(value), 3)))
        ),
      );
      return tile.element;
    });
    if (
      tiles.some((tile, i) => this.#grid.children[i] !== tile) ||
      this.#grid.children.length !== tiles.length
    ) {
      replace(this.#grid, ...tiles);
    }
  }

  #show(image: HTMLImageElement, { prompt, path }: SampleReference, step: number): void {
    image.alt = `${prompt}, step ${step}`;
    this.#images.show(image, imagePath(this.#runId, path));
  }

  #setWipe(percent: number): void {
    this.#wipe.value = String(percent);
    this.#grid.style.setProperty("--wipe", `${percent}%`);
    this.#grid.dataset["wiped"] = String(percent > 0 && percent < 100);
  }

  /** Dragging over any image moves the slider. */
  #drag(event: PointerEvent): void {
    const frame = event.target instanceof Element ? event.target.closest(".frame") : null;
    const dragged = event.pointerType === "mouse" ? event.buttons === 1 : event.pressure > 0;
    if (frame === null || !dragged) return;
    event.preventDefault();
    const { left, width } = frame.getBoundingClientRect();
    this.#setWipe(Math.min(100, Math.max(0, 100 * (event.clientX - left) / width)));
  }
}

function makeTile({ prompt, seed }: SampleReference): Tile {
  const [before, after] = [image("before"), image("after")];
  const scores = h("div", { class: "scores" });
  const element = h(
    "figure",
    { class: "sample" },
    h(
      "div",
      { class: "frame" },
      after,
      before,
      h("span", { class: "wipe-line" }),
      button("Enlarge", () => {}, {
        class: "enlarge",
        "aria-label": `Enlarge ${prompt}, seed ${seed}`,
      }),
    ),
    h(
      "figcaption",
      {},
      h("span", { class: "prompt" }, prompt),
      h("span", { class: "seed" }, `seed ${seed}`),
      scores,
    ),
  );
  return { element, before, after, scores };
}

function image(name: string): HTMLImageElement {
  return h("img", { class: name, draggable: "false", decoding: "async" });
}

const keyOf = ({ prompt, seed }: SampleReference) => `${seed} ${prompt}`;
