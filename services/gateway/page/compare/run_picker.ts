import { h, replace } from "../dom.ts";
import type { Run } from "../types.ts";
import { stateChip } from "../views/state_chip.ts";

/** A choice of any number of runs, in order of choosing. */
export class RunPicker {
  readonly element: HTMLElement;
  readonly #list = h("div", { class: "run-picker" });
  readonly #onChange: () => void;
  readonly #boxes = new Map<string, HTMLInputElement>();
  #chosen: readonly string[];
  #shown = "";

  /** @param chosen ids of runs, which may arrive later */
  constructor(chosen: readonly string[], onChange: () => void) {
    this.#chosen = chosen;
    this.#onChange = onChange;
    this.element = h(
      "fieldset",
      { class: "checks" },
      h(
        "legend",
        { class: "field-label" },
        "Runs; others are compared with the first that is chosen",
      ),
      this.#list,
    );
  }

  /** Ids of the chosen runs. */
  get chosen(): readonly string[] {
    return this.#chosen;
  }

  update(runs: readonly Run[]): void {
    const shown = JSON.stringify(runs.map(({ id, state }) => [id, state]));
    if (shown === this.#shown) return;
    this.#shown = shown;
    replace(
      this.#list,
      ...runs.map(({ id, state }) => {
        const box = this.#boxes.get(id) ?? this.#box(id);
        return h("label", {}, box, h("span", {}, id), stateChip(state));
      }),
    );
  }

  #box(id: string): HTMLInputElement {
    const box = h("input", {
      type: "checkbox",
      checked: this.#chosen.includes(id),
      onchange: () => {
        const others = this.#chosen.filter((other) => other !== id);
        this.#chosen = box.checked ? [...others, id] : others;
        this.#onChange();
      },
    });
    this.#boxes.set(id, box);
    return box;
  }
}
