import type { BlindComparison, Tally } from "../blind_comparison.ts";
import { button, h } from "../dom.ts";
import { percent } from "../format.ts";
import { plainTable } from "../plain_table.ts";
import { saveFile } from "../save_file.ts";
import type { SampledImage } from "../types.ts";
import { type CompareOrder, type Contestant, SIDES } from "./compare_order.ts";

/** Which was which, and how often it won. */
export function compareResults(
  comparison: BlindComparison<SampledImage>,
  order: CompareOrder,
  again: () => void,
): HTMLElement {
  const tallies = comparison.tallies();
  const all = tallies.at(-1);
  const name = ({ runId, step }: Contestant) =>
    `${runId}, ${step === 0 ? "without LoRA" : `checkpoint ${step}`}`;
  const save = () => {
    const { contestants, seed, imagesPerPrompt } = order;
    const text = JSON.stringify(
      { contestants, seed, imagesPerPrompt, votes: comparison.votes(), tallies },
      null,
      2,
    );
    saveFile(new Blob([text], { type: "application/json" }), "comparison.json");
  };
  return h(
    "div",
    { class: "narrow results" },
    h(
      "dl",
      { class: "facts" },
      ...SIDES.flatMap((side) => [h("dt", {}, side), h("dd", {}, name(order.contestants[side]))]),
    ),
    all && h("p", { class: "verdict" }, verdict(all)),
    plainTable(["Category", ...HEADS], { rows: tallies.map(tallyRow), stacked: true }),
    h(
      "p",
      { class: "sub" },
      "Win rate among pairs with a preference; ties are left out. Wilson’s interval; the line is one half.",
    ),
    h(
      "div",
      { class: "actions" },
      button("Save votes", save),
      button("Compare again", again, { class: "primary" }),
    ),
  );
}

const HEADS = ["A wins", "Ties", "B wins", "B’s win rate", "95 % interval"];

function tallyRow({ category, A, B, ties, share, low, high }: Tally): HTMLElement {
  const bar = h(
    "span",
    { class: "interval", "aria-hidden": "true" },
    h("span", { class: "range" }),
    h("span", { class: "at" }),
  );
  bar.style.setProperty("--low", percentCss(low));
  bar.style.setProperty("--high", percentCss(high));
  bar.style.setProperty("--share", percentCss(share));
  const known = A + B > 0;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, category),
    ...[A, ties, B, known ? percent(share) : "–"].map((value, i) =>
      h("td", { class: "num", "data-label": HEADS[i] }, value)
    ),
    h(
      "td",
      { "data-label": HEADS.at(-1) },
      known && h("span", { class: "num" }, `${percent(low)} to ${percent(high)}`),
      known && bar,
    ),
  );
}

const percentCss = (share: number) => `${100 * share}%`;

/** What the votes allow to be said. */
function verdict({ A, B, low, high, share }: Tally): string {
  if (A + B === 0) return "No preference.";
  const rate = `B won ${B} of ${A + B} (${percent(share)})`;
  if (low > 0.5) return `${rate}: better than A at 95 % confidence.`;
  if (high < 0.5) return `${rate}: worse than A at 95 % confidence.`;
  return `${rate}: too few votes, or too little difference, to tell them apart.`;
}
