import { imagePath, type Images } from "../api.ts";
import { button, h, replace } from "../dom.ts";
import { number } from "../format.ts";
import { openViewer, type ViewedRow } from "../image_viewer.ts";
import { lastAtMost } from "../run_history.ts";
import type { SampleReference } from "../types.ts";
import type { ComparedRun } from "./compared_run.ts";

const keyOf = ({ prompt, seed }: SampleReference) => `${seed} ${prompt}`;

/** Samples of several runs side by side: a row for each prompt and seed that all of them draw. */
export class SampleRows {
  readonly element: HTMLElement;
  readonly #images: Images;
  readonly #step: HTMLInputElement;
  readonly #label = h("output", { class: "scrub-value" });
  readonly #controls: HTMLElement;
  readonly #table = h("div", { class: "scroll" });
  #runs: readonly ComparedRun[] = [];
  #shown = "";
  /** The newest until somebody moves away from them. */
  #newest = true;

  constructor(images: Images) {
    this.#images = images;
    this.#step = h("input", {
      type: "range",
      min: 0,
      max: 0,
      step: 1,
      "aria-label": "Samples after step",
      oninput: () => {
        this.#newest = this.#step.value === this.#step.max;
        this.#draw();
      },
    });
    this.#controls = h(
      "div",
      { class: "scrub" },
      h("label", {}, h("span", {}, "Step"), this.#step, this.#label),
    );
    this.element = h("div", {}, this.#controls, this.#table);
  }

  update(runs: readonly ComparedRun[]): void {
    this.#runs = runs;
    const steps = runs.map(({ history }) => history.samples.at(-1)?.step ?? 0);
    this.#step.max = String(Math.max(0, ...steps));
    if (this.#newest) this.#step.value = this.#step.max;
    this.#draw();
  }

  #draw(): void {
    const step = this.#step.valueAsNumber;
    replace(this.#label, `step ${step}`);
    this.#step.setAttribute("aria-valuetext", `step ${step}`);
    const columns = this.#runs.map(({ run, history }) => {
      const sampled = history.samples[lastAtMost(history.samples, step)];
      return {
        id: run.id,
        step: sampled?.step ?? 0,
        samples: new Map((sampled?.samples ?? []).map((sample) => [keyOf(sample), sample])),
      };
    });
    const shown = JSON.stringify(columns.map(({ id, step, samples }) => [id, step, samples.size]));
    if (shown === this.#shown) return;
    this.#shown = shown;
    const [first, ...others] = columns;
    const keys = [...first?.samples.keys() ?? []]
      .filter((key) => others.every(({ samples }) => samples.has(key)));
    const rows = columns.map(({ id, step, samples }): ViewedRow => ({
      label: `${id}, step ${step}`,
      images: keys.flatMap((key) => {
        const sample = samples.get(key);
        if (sample === undefined) return [];
        const { prompt, seed, path, rewards } = sample;
        const scores = Object.fromEntries(
          Object.entries(rewards).map(([name, value]) => [name, Number(value)]),
        );
        const show = (image: HTMLImageElement) => this.#images.show(image, imagePath(id, path));
        return [{ key, prompt, detail: `seed ${seed}, ${id}, step ${step}`, scores, show }];
      }),
    }));
    if (keys.length === 0) {
      return replace(
        this.#table,
        h("p", { class: "empty" }, "These runs have drawn no sample of the same prompt and seed."),
      );
    }
    replace(
      this.#table,
      h(
        "table",
        { class: "side-by-side" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "Prompt"),
            ...columns.map(({ id, step }) =>
              h("th", { scope: "col" }, id, h("span", { class: "sub" }, ` step ${step}`))
            ),
          ),
        ),
        h("tbody", {}, ...keys.map((key) => sampleRow(key, rows))),
      ),
    );
  }
}

/** The same prompt and seed of every run. */
function sampleRow(key: string, rows: readonly ViewedRow[]): HTMLElement {
  const cells = rows.map(({ images }) => images.find((image) => image.key === key));
  const [first] = cells;
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      first?.prompt,
      h("span", { class: "sub" }, ` seed ${key.split(" ")[0]}`),
    ),
    ...cells.map((image, row) => {
      if (image === undefined) return h("td", {}, "–");
      const picture = h("img", { alt: `${image.prompt}, ${image.detail}` });
      image.show(picture);
      return h(
        "td",
        {},
        h(
          "div",
          { class: "frame", onclick: () => openViewer(rows, { row, key }) },
          picture,
          button("Enlarge", () => {}, {
            class: "enlarge",
            "aria-label": `Enlarge ${image.prompt}, ${image.detail}`,
          }),
        ),
        ...Object.entries(image.scores).map(([name, value]) =>
          h("span", { class: "score" }, `${name} `, h("b", {}, number(value, 3)))
        ),
      );
    }),
  );
}
