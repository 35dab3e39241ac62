/** The step that charts point at together; announces "change". */
export class Cursor extends EventTarget {
  #step: number | undefined;

  get step(): number | undefined {
    return this.#step;
  }

  set step(step: number | undefined) {
    if (step === this.#step) return;
    this.#step = step;
    this.dispatchEvent(new Event("change"));
  }
}
