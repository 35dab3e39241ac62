import { h, onceAFrame, replace, say } from "../dom.ts";
import { ago, dateTime, duration, number } from "../format.ts";
import type { Run } from "../types.ts";
import { isGoing, stateChip } from "./state_chip.ts";
import type { View, ViewContext } from "./view.ts";

/** All runs, newest first. */
export function runsView({ overview, signal }: ViewContext): View {
  const body = h("div", {});
  const table = new RunTable();
  const draw = onceAFrame(() => {
    const runs = overview.newestFirst;
    if (!overview.ready) replace(body, h("p", { class: "empty" }, "Loading…"));
    else if (runs.length > 0) {
      table.update(runs);
      if (body.firstElementChild !== table.element) replace(body, table.element);
    } else if (overview.services?.trainer.ready === false) {
      replace(
        body,
        h("p", { class: "empty" }, "The runs are here as soon as the trainer answers."),
      );
    } else {
      replace(
        body,
        h(
          "div",
          { class: "empty-state" },
          h("h2", {}, "No runs yet"),
          h("p", {}, "A run tunes a model with the gradients of rewards. Start one from a preset."),
          h("a", { class: "button primary", href: "#/new" }, "Start a run"),
        ),
      );
    }
  });
  overview.addEventListener("change", draw, { signal });
  // "5 min ago" gets old.
  const timer = setInterval(draw, 10_000);
  signal.addEventListener("abort", () => clearInterval(timer));
  draw();
  return {
    title: "Runs",
    content: [
      h(
        "div",
        { class: "page-head" },
        h("h1", {}, "Runs"),
        h("a", { class: "button primary", href: "#/new" }, "Start a run"),
      ),
      body,
    ],
  };
}

/** A row, and the run that it shows. */
interface Row {
  readonly element: HTMLElement;
  readonly changed: HTMLElement;
  run: Run | undefined;
}

/** The table's rows, by run. Cells of a run that changed are drawn anew, links stay, and with them the focus. */
class RunTable {
  readonly element: HTMLElement;
  readonly #body = h("tbody", {});
  readonly #rows = new Map<string, Row>();

  constructor() {
    const names = ["Run", "State", "Progress", "Rewards", "Speed", "Time left", "Changed"];
    this.element = h(
      "table",
      { class: "runs stacked" },
      h("thead", {}, h("tr", {}, ...names.map((name) => h("th", { scope: "col" }, name)))),
      this.#body,
    );
  }

  update(runs: readonly Run[]): void {
    const rows = runs.map((run) => {
      const row = this.#rows.get(run.id) ?? newRow(run);
      this.#rows.set(run.id, row);
      const { element, changed } = row;
      if (row.run !== run) {
        replace(element, element.firstElementChild ?? undefined, ...cells(run), changed);
        changed.title = dateTime(run.updatedAt);
        row.run = run;
      }
      say(changed, ago(run.updatedAt));
      return element;
    });
    const inPlace = rows.length === this.#body.children.length &&
      rows.every((row, i) => this.#body.children[i] === row);
    if (!inPlace) replace(this.#body, ...rows);
  }
}

function newRow(run: Run): Row {
  const changed = h("td", { class: "num", "data-label": "Changed" });
  return { element: h("tr", {}, nameCell(run)), changed, run: undefined };
}

function nameCell({ id, config }: Run): HTMLElement {
  const about = [config?.method?.name, config?.model].filter(Boolean).join(" · ");
  return h(
    "th",
    { scope: "row" },
    h("a", { href: `#/runs/${id}` }, id),
    h("span", { class: "sub" }, about),
  );
}

function cells({ id, state, step, iterations, latest, reason }: Run): HTMLElement[] {
  const seconds = latest?.seconds["total"];
  return [
    h(
      "td",
      {},
      stateChip(state),
      // What a finished run says of itself stands on its own page.
      reason !== "" && state !== "RUN_STATE_FINISHED" && h("span", { class: "sub reason" }, reason),
    ),
    h(
      "td",
      { class: "whole" },
      h("progress", { max: iterations || 1, value: step, "aria-label": `Progress of ${id}` }),
      h("span", { class: "sub num" }, `${step} of ${iterations} steps`),
    ),
    h(
      "td",
      { class: "whole" },
      ...Object.entries(latest?.rewards ?? {}).map(([name, { mean }]) =>
        h("span", { class: "score" }, `${name} `, h("b", {}, number(Number(mean), 3)))
      ),
    ),
    h(
      "td",
      { class: "num", "data-label": "Speed" },
      seconds === undefined ? "–" : `${duration(seconds)} / step`,
    ),
    h(
      "td",
      { class: "num", "data-label": "Time left" },
      isGoing(state) && latest?.step ? duration(latest.secondsLeft) : "–",
    ),
  ];
}
