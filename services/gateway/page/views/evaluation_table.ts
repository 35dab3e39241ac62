import { h } from "../dom.ts";
import { number, signed } from "../format.ts";
import { plainTable } from "../plain_table.ts";
import type { EvaluatedPair, EvaluationSummary } from "../types.ts";

const HEADS = ["Reward", "Without", "With", "Difference", "95 % interval", ""];

/** A row for each reward: means without and with the LoRA, and what the paired difference says. */
export function evaluationTable(
  { rewards, pairs }: EvaluationSummary,
  better: ReadonlyMap<string, string>,
): HTMLElement {
  const rows = Object.entries(rewards).map(([name, summary]) => {
    const [before, after, difference, lower, upper] = [
      ...[summary.before, summary.after, summary.difference],
      ...[summary.lower, summary.upper],
    ].map(Number);
    const interval = pairs < 2 ? "–" : `${signed(lower ?? NaN)} to ${signed(upper ?? NaN)}`;
    const cells = [
      number(before ?? NaN),
      number(after ?? NaN),
      signed(difference ?? NaN),
      interval,
      pairs < 2
        ? "one pair tells nothing"
        : verdict([lower ?? NaN, upper ?? NaN], better.get(name)),
    ];
    return h(
      "tr",
      {},
      h(
        "th",
        { scope: "row" },
        name,
        better.has(name) && h("span", { class: "sub" }, ` ${better.get(name)} is better`),
      ),
      ...cells.map((text, i) =>
        h("td", { class: i < 4 ? "num" : "sub", "data-label": HEADS[i + 1] }, text)
      ),
    );
  });
  return plainTable(HEADS, { rows, stacked: true });
}

/** What an interval of a difference says. Of a reward whose direction is not known, only whether it moved. */
export function verdict(
  [lower, upper]: readonly [number, number],
  better: string | undefined,
): string {
  if (!(lower > 0) && !(upper < 0)) return "no difference that is certain";
  if (better === undefined) return lower > 0 ? "rose" : "fell";
  return (lower > 0) === (better === "larger") ? "better" : "worse";
}

/** Every pair as a line of CSV: prompt, seed, then each reward without and with the LoRA. */
export function evaluationCsv(pairs: readonly EvaluatedPair[]): string {
  const names = Object.keys(pairs[0]?.before ?? {});
  const head = ["prompt", "seed", ...names.flatMap((name) => [`${name} without`, `${name} with`])];
  const rows = pairs.map(({ prompt, seed, before, after }) => [
    ...[prompt, String(seed)],
    ...names.flatMap((name) => [String(before[name] ?? ""), String(after[name] ?? "")]),
  ]);
  return [head, ...rows].map((cells) => `${cells.map(csvCell).join(",")}\r\n`).join("");
}

/** RFC 4180; what a spreadsheet would compute is text. */
function csvCell(text: string): string {
  const safe = /^[=+@\t]/.test(text) || (text.startsWith("-") && Number.isNaN(Number(text)))
    ? `'${text}`
    : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
