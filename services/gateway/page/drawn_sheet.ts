import { button, field, h, onceAFrame, replace } from "./dom.ts";
import { number } from "./format.ts";
import { openViewer, type ViewedImage } from "./image_viewer.ts";
import { saveFile } from "./save_file.ts";
import { type DrawnImage, sectionsOf } from "./sheet_sections.ts";
import { sheetPicture } from "./sheet_picture.ts";

const ENDS = [0, 4, 8, 16];

/** Images with their rewards under them, by a reward if wanted, all or the best and the worst; a click enlarges one. */
export class DrawnSheet {
  readonly element: HTMLElement;
  readonly #images: DrawnImage[] = [];
  readonly #better: ReadonlyMap<string, string>;
  readonly #controls: HTMLElement;
  readonly #by: HTMLSelectElement;
  readonly #ends: HTMLSelectElement;
  readonly #sections = h("div", {});

  /** @param better "smaller" or "larger" by reward, of those that images are scored with */
  constructor(better: ReadonlyMap<string, string>) {
    this.#better = better;
    this.#by = h(
      "select",
      { onchange: () => this.#draw() },
      h("option", { value: "" }, "as drawn"),
      ...[...better.keys()].map((name) => h("option", { value: name }, `${name}, best first`)),
    );
    this.#ends = h(
      "select",
      { onchange: () => this.#draw() },
      ...ENDS.map((n) =>
        h("option", { value: n }, n === 0 ? "all" : `the best ${n} and the worst ${n}`)
      ),
    );
    this.#controls = h(
      "div",
      { class: "sheet-controls", hidden: true },
      field("Order", this.#by),
      field("Show", this.#ends),
      button("Save the sheet", () => this.#save()),
    );
    this.element = h("div", {}, this.#controls, this.#sections);
  }

  get images(): readonly DrawnImage[] {
    return this.#images;
  }

  add(image: DrawnImage): void {
    this.#images.push(image);
    this.update();
  }

  /** Shows what there is now, at the next frame: scores come fast. */
  readonly update = onceAFrame(() => this.#draw());

  #draw(): void {
    this.#controls.hidden = this.#images.length === 0;
    const order = { reward: this.#by.value, ends: Number(this.#ends.value) };
    const parts = sectionsOf(this.#images, order, this.#better);
    const all = parts.flatMap(({ images }) => images);
    replace(
      this.#sections,
      ...parts.flatMap(({ title, images }) => [
        title !== "" && h("h3", {}, title),
        h("div", { class: "samples" }, ...images.map((image) => this.#figure(image, all))),
      ]),
    );
  }

  async #save(): Promise<void> {
    const order = { reward: this.#by.value, ends: Number(this.#ends.value) };
    saveFile(await sheetPicture(sectionsOf(this.#images, order, this.#better)), "sheet.png");
  }

  #figure(image: DrawnImage, all: readonly DrawnImage[]): HTMLElement {
    const open = () =>
      openViewer([{ label: "", images: all.map(viewed) }], { row: 0, key: keyOf(image) });
    return h(
      "figure",
      { class: "sample" },
      h(
        "div",
        { class: "frame", onclick: open },
        h("img", { src: image.url, alt: `${image.prompt}, seed ${image.seed}` }),
        button("Enlarge", () => {}, {
          class: "enlarge",
          "aria-label": `Enlarge ${image.prompt}, seed ${image.seed}`,
        }),
      ),
      h(
        "figcaption",
        {},
        h("span", { class: "prompt" }, image.prompt),
        h("span", { class: "seed" }, `seed ${image.seed}`),
        h(
          "div",
          { class: "scores" },
          ...Object.entries(image.scores).map(([name, value]) =>
            h("span", { class: "score" }, `${name} `, h("b", {}, number(value, 3)))
          ),
        ),
      ),
    );
  }
}

const keyOf = ({ seed, prompt }: DrawnImage) => `${seed} ${prompt}`;

function viewed(image: DrawnImage): ViewedImage {
  const { prompt, seed, scores, url } = image;
  const show = (element: HTMLImageElement) => void (element.src = url);
  return { key: keyOf(image), prompt, detail: `seed ${seed}`, scores, show };
}
