import { h, replace, say } from "../dom.ts";
import { number, shortDigest } from "../format.ts";
import type { RunHistory } from "../run_history.ts";
import type { Run } from "../types.ts";

/** Each image of a step: its prompt and its rewards, as bars within the step's range. */
export function drawPerImage(
  element: HTMLElement,
  history: RunHistory,
  step: number | undefined,
): void {
  const event = history.at(step ?? Infinity);
  if (event === undefined) return replace(element, h("p", { class: "empty" }, "No step yet."));
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
  const hues = [...history.rewardNames];
  const table = h(
    "table",
    { class: "per-image" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
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
  const caption = `Step ${event.step}${step === undefined ? ", the last one" : ""}`;
  const scroll = element.querySelector(".scroll");
  // What scrolls stays: somebody may be looking at its right end while a run goes on.
  if (scroll === null) {
    return replace(
      element,
      h("p", { class: "sub" }, caption),
      h("div", { class: "scroll" }, table),
    );
  }
  replace(scroll, table);
  if (element.firstElementChild) say(element.firstElementChild, caption);
}

/** The rewards that are trained now, and the weights that answered last. */
export function drawMixture(element: HTMLElement, run: Run, history: RunHistory): void {
  const last = history.steps.at(-1);
  const cells = run.rewards.map(({ name, endpoint, weight, expectedDigest }) => {
    const digest = last?.rewards[name]?.digest ?? "";
    return [
      name,
      number(weight ?? 1, 3),
      endpoint,
      digest === "" ? "–" : shortDigest(digest),
      expectedDigest ? shortDigest(expectedDigest) : "any",
    ];
  });
  const text = JSON.stringify(cells);
  if (element.dataset["shown"] === text) return;
  element.dataset["shown"] = text;
  const heads = ["Reward", "Weight", "Service", "Weights digest", "Expected"];
  replace(
    element,
    h(
      "table",
      { class: "plain stacked" },
      h("thead", {}, h("tr", {}, ...heads.map((name) => h("th", { scope: "col" }, name)))),
      h(
        "tbody",
        {},
        ...cells.map(([name = "", ...rest]) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, name),
            ...rest.map((cell, i) =>
              h("td", { class: i === 0 ? "num" : "mono", "data-label": heads[i + 1] }, cell)
            ),
          )
        ),
      ),
    ),
  );
}
