import { h, onceAFrame, replace } from "../dom.ts";
import { ago, dateTime, duration, number } from "../format.ts";
import type { Run } from "../types.ts";
import { isGoing, stateChip } from "./state_chip.ts";
import type { View, ViewContext } from "./view.ts";

/** All runs, newest first. */
export function runsView({ overview, signal }: ViewContext): View {
  const body = h("div", {});
  const draw = onceAFrame(() => {
    const runs = overview.newestFirst;
    if (!overview.ready) replace(body, h("p", { class: "empty" }, "Loading…"));
    else if (runs.length > 0) replace(body, table(runs));
    else {
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

function table(runs: readonly Run[]): HTMLElement {
  return h(
    "table",
    { class: "runs" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ...["Run", "State", "Progress", "Rewards", "Speed", "Time left", "Changed"].map((name) =>
          h("th", { scope: "col" }, name)
        ),
      ),
    ),
    h("tbody", {}, ...runs.map(row)),
  );
}

function row(run: Run): HTMLElement {
  const { id, state, step, iterations, latest, config, reason, updatedAt } = run;
  const seconds = latest?.seconds["total"];
  const going = isGoing(state);
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      h("a", { href: `#/runs/${id}` }, id),
      h(
        "span",
        { class: "sub" },
        [config?.method?.name, config?.model].filter(Boolean).join(" · "),
      ),
    ),
    h("td", {}, stateChip(state), reason !== "" && h("span", { class: "sub reason" }, reason)),
    h(
      "td",
      { "data-label": "Progress" },
      h("progress", { max: iterations || 1, value: step, "aria-label": `Progress of ${id}` }),
      h("span", { class: "sub num" }, `${step} of ${iterations} steps`),
    ),
    h(
      "td",
      { "data-label": "Rewards" },
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
      going && latest ? duration(latest.secondsLeft) : "–",
    ),
    h("td", { class: "num", "data-label": "Changed", title: dateTime(updatedAt) }, ago(updatedAt)),
  );
}
