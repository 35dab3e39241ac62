import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { escaped, htmlPage, htmlPicture, htmlTable, type TableCell } from "../report/html.ts";
import { csvLine } from "../score/csv.ts";
import type { ComparedPair, Comparison } from "./compare_pairs.ts";

/** What was compared. */
export interface ComparisonFacts {
  readonly a: string;
  readonly b: string;
  readonly command: string;
  readonly pairs: readonly ComparedPair[];
  readonly comparisons: readonly Comparison[];
  readonly isUp: (reward: string) => boolean;
  /** Pictures of a pair, by its place. */
  readonly images: readonly { readonly a: Uint8Array; readonly b: Uint8Array }[];
}

/** Pairs whose pictures a page shows. */
const SHOWN = 24;

const number = (v: number) => Number.isFinite(v) ? v.toPrecision(4) : "-";
const percent = (v: number) => Number.isFinite(v) ? `${(100 * v).toFixed(1)} %` : "-";

/** Heads and rows of the table of a comparison, a row for each reward and category. */
export function comparisonTable(
  { comparisons, isUp }: Pick<ComparisonFacts, "comparisons" | "isUp">,
): { readonly head: readonly string[]; readonly rows: readonly (readonly TableCell[])[] } {
  return {
    head: [
      "reward",
      "category",
      "pairs",
      "A",
      "B",
      "B - A",
      "95 %",
      "A / ties / B",
      "B's win rate",
      "95 %",
    ],
    rows: comparisons.map((c) => {
      const { low, high } = c.difference;
      const isBest = c.winRate.low > 0.5 || c.winRate.high < 0.5;
      return [
        `${c.reward} (${isUp(c.reward) ? "up" : "down"})`,
        c.category,
        String(c.pairs),
        ...[c.a, c.b, c.difference.mean].map(number),
        c.prompts < 2 ? "-" : `${number(low)} to ${number(high)}`,
        `${c.wins.a} / ${c.wins.ties} / ${c.wins.b}`,
        { text: percent(c.winRate.share), isBest },
        `${percent(c.winRate.low)} to ${percent(c.winRate.high)}`,
      ];
    }),
  };
}

/** What the table's columns mean. */
export function comparisonNotes({ a, b }: Pick<ComparisonFacts, "a" | "b">): readonly string[] {
  return [
    `A: ${a}`,
    `B: ${b}`,
    "Pairs are pictures of the same prompt, and of the same seed where both were drawn here; the win rate is B's among " +
    "pairs with a winner. Intervals are over prompts: Student's for the difference, Wilson's for the win rate.",
  ];
}

/** Writes pairs.csv, categories.csv, comparison.json, index.html and the pictures of every pair. */
export async function writeComparison(folder: string, facts: ComparisonFacts): Promise<void> {
  const { a, b, pairs, comparisons, images } = facts;
  for (const side of ["a", "b"]) await mkdir(join(folder, "pictures", side), { recursive: true });
  for (const [i, pair] of images.entries()) {
    const name = `${String(i).padStart(5, "0")}.png`;
    await writeFile(join(folder, "pictures", "a", name), pair.a);
    await writeFile(join(folder, "pictures", "b", name), pair.b);
  }
  const rewards = [...new Set(pairs.flatMap(({ a }) => Object.keys(a)))];
  const head = [
    "prompt",
    "category",
    "seed",
    ...rewards.flatMap((name) => [`${name} A`, `${name} B`]),
  ];
  const lines = pairs.map(({ prompt, category, seed, a, b }) =>
    csvLine([prompt, category, seed, ...rewards.flatMap((name) => [a[name] ?? "", b[name] ?? ""])])
  );
  await writeFile(join(folder, "pairs.csv"), [csvLine(head), ...lines, ""].join("\n"));
  const columns = ["reward", "category", "pairs", "prompts", "A", "B", "difference", "low", "high"];
  const byCategory = comparisons.map((c) =>
    csvLine([
      ...[c.reward, c.category, c.pairs, c.prompts, c.a, c.b],
      ...[c.difference.mean, c.difference.low, c.difference.high],
      ...[c.wins.a, c.wins.ties, c.wins.b, c.winRate.share, c.winRate.low, c.winRate.high],
    ])
  );
  const wins = ["A wins", "ties", "B wins", "B win rate", "win rate low", "win rate high"];
  await writeFile(
    join(folder, "categories.csv"),
    [csvLine([...columns, ...wins]), ...byCategory, ""].join("\n"),
  );
  await writeFile(
    join(folder, "comparison.json"),
    `${JSON.stringify({ a, b, command: facts.command, comparisons }, undefined, 1)}\n`,
  );
  await writeFile(join(folder, "index.html"), page(facts));
}

function page(facts: ComparisonFacts): string {
  const { a, b, command, pairs, images } = facts;
  const { head, rows } = comparisonTable(facts);
  const shown = pairs.slice(0, SHOWN).map(({ prompt, category, seed }, i) => {
    const pair = images[i];
    if (pair === undefined) return "";
    return `<h3>${escaped(prompt)}</h3><p class="soft">${escaped(category)}, seed ${seed}</p>` +
      htmlPicture(pair.a, `${prompt}, ${a}`) + " " + htmlPicture(pair.b, `${prompt}, ${b}`);
  });
  return htmlPage(
    `${a} and ${b}`,
    [
      `<h1>${escaped(a)} and ${escaped(b)}</h1>`,
      `<pre>${escaped(command)}</pre>`,
      ...comparisonNotes(facts).map((note) => `<p>${escaped(note)}</p>`),
      htmlTable(head, rows),
      `<h2>Pictures</h2><p class="soft">Left ${escaped(a)}, right ${escaped(b)}; the first ${
        Math.min(SHOWN, pairs.length)
      } of ${pairs.length} pairs.</p>`,
      ...shown,
    ].join("\n"),
  );
}
