import { h, replace } from "../dom.ts";
import { number, shortDigest } from "../format.ts";
import { plainTable } from "../plain_table.ts";
import type { RunHistory } from "../run_history.ts";
import type { Run } from "../types.ts";

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
    plainTable(heads, {
      stacked: true,
      rows: cells.map(([name = "", ...rest]) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, name),
          ...rest.map((cell, i) =>
            h("td", { class: i === 0 ? "num" : "mono", "data-label": heads[i + 1] }, cell)
          ),
        )
      ),
    }),
  );
}
