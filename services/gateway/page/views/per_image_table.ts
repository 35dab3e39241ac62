import { imagePath, type Images } from "../api.ts";
import { button, h, replace, say } from "../dom.ts";
import { number } from "../format.ts";
import { openViewer, type ViewedImage } from "../image_viewer.ts";
import type { RunHistory } from "../run_history.ts";
import type { StepEvent } from "../types.ts";

/** Each image of a step: the image where it was kept, its prompt, and its rewards as bars within the step's range. */
export class PerImageTable {
  readonly element: HTMLElement;
  readonly #runId: string;
  readonly #images: Images;
  readonly #caption = h("p", { class: "sub" });
  /** Scrolls, and stays: somebody may be looking at its right end while a run goes on. */
  readonly #scroll = h("div", { class: "scroll" });
  readonly #newest = h("input", { type: "checkbox", onchange: () => this.#draw() });
  readonly #choice = h(
    "div",
    { class: "checks", hidden: true },
    h("label", {}, this.#newest, "The last step, also where its images were not kept"),
  );
  readonly #thumbnails = new Map<string, HTMLImageElement>();
  #history: RunHistory | undefined;
  #step: number | undefined;

  constructor(runId: string, images: Images) {
    [this.#runId, this.#images] = [runId, images];
    this.element = h("div", {}, this.#choice, this.#caption, this.#scroll);
  }

  /** @param step that somebody points at; undefined: none */
  update(history: RunHistory, step: number | undefined): void {
    [this.#history, this.#step] = [history, step];
    this.#draw();
  }

  #draw(): void {
    const history = this.#history;
    if (history === undefined) return;
    const last = history.steps.at(-1);
    const pictured = history.steps.findLast(({ images }) => images.length > 0);
    this.#choice.hidden = pictured === undefined || pictured === last;
    const event = this.#step !== undefined
      ? history.at(this.#step)
      : this.#newest.checked
      ? last
      : pictured ?? last;
    if (event === undefined) {
      say(this.#caption, "No step yet.");
      return replace(this.#scroll);
    }
    const which = this.#step !== undefined
      ? ""
      : event === last
      ? ", the last one"
      : ", the last one whose images were kept";
    say(this.#caption, `Step ${event.step}${which}`);
    replace(this.#scroll, this.#table(event, [...history.rewardNames]));
  }

  #table(event: StepEvent, hues: readonly string[]): HTMLElement {
    const names = Object.keys(event.rewards);
    const values = new Map(
      names.map((name) => [name, (event.rewards[name]?.perImage ?? []).map(Number)]),
    );
    const count = Math.max(0, ...[...values.values()].map((list) => list.length));
    const bars = new Map(names.map((name) => {
      const list = (values.get(name) ?? []).filter(Number.isFinite);
      const [low, high] = [Math.min(0, ...list), Math.max(0, ...list)];
      return [name, { low, width: high - low || 1 }];
    }));
    const viewed = this.#viewed(event, values);
    return h(
      "table",
      { class: "per-image" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          viewed.length > 0 && h("th", { scope: "col" }, "Image"),
          h("th", { scope: "col" }, "Prompt"),
          ...names.map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        ...Array.from({ length: count }, (_, i) =>
          h(
            "tr",
            {},
            viewed.length > 0 && h("td", {}, this.#thumbnail(viewed, i)),
            h("th", { scope: "row" }, event.prompts[i] ?? `image ${i + 1}`),
            ...names.map((name) => {
              const value = values.get(name)?.[i] ?? NaN;
              const { low, width } = bars.get(name) ?? { low: 0, width: 1 };
              const bar = h("span", { class: `bar hue-${hues.indexOf(name) % 6}` });
              bar.style.setProperty("--from", `${100 * (Math.min(0, value) - low) / width}%`);
              bar.style.setProperty("--size", `${100 * Math.abs(value) / width}%`);
              return h("td", {}, h("span", { class: "num" }, number(value, 3)), bar);
            }),
          )),
      ),
    );
  }

  #viewed(
    { step, prompts, images }: StepEvent,
    values: ReadonlyMap<string, readonly number[]>,
  ): ViewedImage[] {
    return images.map((path, i) => ({
      key: String(i),
      prompt: prompts[i] ?? `image ${i + 1}`,
      detail: `image ${i + 1} of step ${step}`,
      scores: Object.fromEntries([...values].map(([name, list]) => [name, list[i] ?? NaN])),
      show: (image) => this.#images.show(image, imagePath(this.#runId, path)),
    }));
  }

  /** The same element as long as there is one: made anew, an image would flicker. */
  #thumbnail(viewed: readonly ViewedImage[], i: number): HTMLElement | undefined {
    const image = viewed[i];
    if (image === undefined) return undefined;
    const key = image.detail;
    const picture = this.#thumbnails.get(key) ?? h("img", { alt: "" });
    this.#thumbnails.set(key, picture);
    image.show(picture);
    const open = () => openViewer([{ label: "", images: viewed }], { row: 0, key: image.key });
    const opening = button("", open, {
      class: "thumbnail",
      "aria-label": `Enlarge ${image.prompt}, ${image.detail}`,
    });
    opening.append(picture);
    return opening;
  }
}
