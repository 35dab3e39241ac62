import { parsePrompts, type Side } from "../blind_comparison.ts";
import { button, field, h, replace } from "../dom.ts";
import type { Run } from "../types.ts";
import { type CompareOrder, type Contestant, SIDES } from "./compare_order.ts";
import { checkpointSelect } from "./checkpoint_select.ts";

/** The form that says what to compare. */
export class CompareSetup {
  readonly element: HTMLElement;
  readonly #sides: Readonly<Record<Side, HTMLElement>> = { A: h("div", {}), B: h("div", {}) };
  readonly #chosen: Record<Side, () => Contestant | undefined> = {
    A: () => undefined,
    B: () => undefined,
  };
  readonly #preset: string | undefined;
  readonly #begin: HTMLButtonElement;
  /** Sides that somebody has chosen; the others follow what there is. */
  readonly #touched = new Set<Side>();
  #shown = "";

  constructor(
    preset: string | undefined,
    { onStart }: { readonly onStart: (order: CompareOrder) => void },
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
    this.#begin = button("Begin", start, { class: "primary" });
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
      h("div", { class: "actions" }, this.#begin),
    );
  }

  update(runs: readonly Run[], ready: boolean): void {
    this.#begin.disabled = runs.length === 0;
    const usable = runs.map(({ id, checkpoints }) => `${id} ${checkpoints.join(" ")}`);
    const now = JSON.stringify([usable, ready]);
    // What somebody has chosen stays: drawn anew only when there is something new to choose.
    if (now === this.#shown) return;
    this.#shown = now;
    // Runs arrive one after the other: the first is not the choice.
    for (const side of SIDES) this.#fill(side, ready ? runs : [], ready);
  }

  #fill(side: Side, runs: readonly Run[], ready: boolean): void {
    const before = this.#touched.has(side) ? this.#chosen[side]() : undefined;
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
      const step = checkpointSelect(chosen, { label: `Weights of ${side}` });
      // As it was against as it is now.
      step.value = String(wanted ?? (side === "A" ? 0 : chosen.checkpoints.at(-1) ?? 0));
      if (step.value === "") step.value = "0";
      replace(place, step);
      step.addEventListener("change", () => this.#touched.add(side));
      this.#chosen[side] = () => ({ runId: run.value, step: Number(step.value) });
    };
    run.addEventListener("change", () => {
      this.#touched.add(side);
      choose(undefined);
    });
    choose(before?.step);
    replace(this.#sides[side], field(`Run of ${side}`, run), place);
  }
}
