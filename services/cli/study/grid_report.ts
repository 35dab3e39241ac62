import { cpus } from "node:os";
import { contactSheet } from "../picture/mod.ts";
import { duration } from "../progress.ts";
import { escaped, htmlPage, htmlPicture, htmlTable, type TableCell } from "../report/html.ts";
import { markdownTable } from "../report/markdown.ts";
import { csvLine } from "../score/csv.ts";
import { type Figure, gridFigures } from "./grid_plots.ts";
import { cellName } from "./grid_runs.ts";
import type { GridOutcome } from "./run_grid.ts";
import type { StudyFolder } from "./study_folder.ts";
import { studyHead, studyMarkdown, writeFigure } from "./study_page.ts";
import type { GridStudy } from "./study_schema.ts";
import {
  type CellSummary,
  type GridSummary,
  type Ranking,
  rankings,
  summariseGrid,
} from "./summarise_grid.ts";

/** What a report says besides results. */
export interface ReportFacts {
  readonly name: string;
  readonly study: GridStudy;
  /** As it can be typed again. */
  readonly command: string;
  /** What a short form leaves out; empty for the whole study. */
  readonly short: string;
  readonly isUp: (reward: string) => boolean;
}

/** Most cells of which pictures are shown. */
const SHOWN_CELLS = 60;

/** Writes study.json, results.csv, every figure as SVG and PNG, summary.md and index.html into a study's folder. */
export async function writeGridReport(
  folder: StudyFolder,
  outcome: GridOutcome,
  facts: ReportFacts,
): Promise<GridSummary> {
  const { study, command } = facts;
  const summary = summariseGrid(outcome, facts.isUp);
  const ranked = rankings(outcome.runs, { summary, by: panelAxis(study) });
  const machine = {
    cores: navigator.hardwareConcurrency,
    cpu: cpus()[0]?.model ?? "",
    os: Deno.build.os,
  };
  const all = {
    name: facts.name,
    command,
    short: facts.short,
    machine,
    study,
    summary,
    rankings: ranked,
  };
  await folder.writeFile("study.json", `${JSON.stringify(all, undefined, 1)}\n`);
  await folder.writeFile("results.csv", csvOf(outcome, study));
  const figures = gridFigures(summary, study.plots);
  for (const figure of figures) await writeFigure(folder, figure);
  const report: Report = { ...facts, summary, ranked, figures, machine };
  await folder.writeFile("summary.md", markdownOf(report));
  await folder.writeFile("index.html", await pageOf(report, folder));
  return summary;
}

interface Report extends ReportFacts {
  readonly summary: GridSummary;
  readonly ranked: readonly Ranking[];
  readonly figures: readonly Figure[];
  readonly machine: { readonly cores: number; readonly cpu: string };
}

/** The axis whose values are told apart first: what the first figure has panels of. */
function panelAxis({ plots, axes }: GridStudy): string {
  return plots[0]?.panels ?? Object.keys(axes).at(-1) ?? "";
}

/** A line for each run and reward. */
function csvOf({ runs }: GridOutcome, { axes }: GridStudy): string {
  const names = Object.keys(axes);
  const head = [...names, "seed", "reward", "trained", "before", "after", "pictures", "iterations"];
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const lines = runs.flatMap(({ spec, result, baseline }) =>
    Object.keys(result.pictures[0]?.scores ?? {}).map((reward) => {
      const of = (pictures: typeof result.pictures) =>
        mean(pictures.map(({ scores }) => scores[reward] ?? NaN));
      const weight = spec.config.rewards.find((t) => (t.name || t.reward) === reward)?.weight;
      return csvLine([
        ...names.map((axis) => spec.cell[axis] ?? ""),
        ...[result.seed, reward, weight ?? 0, of(baseline.pictures), of(result.pictures)],
        ...[
          result.pictures.length,
          result.iterations,
          result.compute,
          result.rewardSeconds,
          result.id,
        ],
      ]);
    })
  );
  return `${csvLine([...head, "compute", "reward_seconds", "run"])}\n${lines.join("\n")}\n`;
}

const number = (v: number) => Number.isFinite(v) ? Number(v.toPrecision(3)).toString() : "-";
const signed = (v: number) => v > 0 ? `+${number(v)}` : number(v);

function interval({ low, high }: { readonly low: number; readonly high: number }): string {
  return low === high ? "-" : `${signed(low)} to ${signed(high)}`;
}

/** The trained reward after training: a row for each combination of the other axes, a column for each panel. */
function mainTable(
  { study, summary }: Report,
): { readonly head: readonly string[]; readonly rows: readonly (readonly TableCell[])[] } {
  const axis = panelAxis(study);
  const columns = [...Map.groupBy(summary.cells, ({ cell }) => cell[axis] ?? "")];
  const rowName = ({ cell }: CellSummary) =>
    Object.entries(cell).filter(([name]) => name !== axis).map(([, value]) => value).join(", ");
  const names = [...new Set(summary.cells.map(rowName))];
  const head = columns.map(([value, [first]]) => `${value} ${first?.isUp ? "up" : "down"}`);
  const best = new Map(
    columns.map(([value, own]) =>
      [value, Math.max(...own.map((cell) => cell.improvement))] as const
    ),
  );
  const before = columns.map(([, [first]]) => number(first?.rewards[first.target]?.before ?? NaN));
  const rows = names.map((name) => [
    name,
    ...columns.map(([value, own]): TableCell => {
      const found = own.find((cell) => rowName(cell) === name);
      if (found === undefined) return "";
      const text = number(found.rewards[found.target]?.after ?? NaN);
      return { text, isBest: found.improvement === best.get(value) };
    }),
  ]);
  return { head: ["", ...head], rows: [["without LoRA", ...before], ...rows] };
}

/** Everything of every cell, a row each. */
function wholeTable(
  { study, summary }: Report,
): { readonly head: readonly string[]; readonly rows: readonly (readonly TableCell[])[] } {
  const others = [...new Set(summary.cells.flatMap(({ rewards }) => Object.keys(rewards)))];
  return {
    head: [
      ...Object.keys(study.axes),
      ...[
        "iterations",
        "compute, s",
        "rewards, s",
        "before",
        "after",
        "95 % of the change",
        "in sd",
      ],
      ...others.map((name) => `${name} after`),
    ],
    rows: summary.cells.map((own) => {
      const found = own.rewards[own.target];
      return [
        ...Object.values(own.cell),
        ...[own.iterations, own.compute, own.rewardSeconds].map(number),
        ...(found
          ? [number(found.before), number(found.after), interval(found.change)]
          : ["", "", ""]),
        signed(own.improvement),
        ...others.map((name) => number(own.rewards[name]?.after ?? NaN)),
      ];
    }),
  };
}

/** How each row of the main table deals with each panel's reward, where the runs had panels with judges. */
function honestyTable(
  { study, summary }: Report,
): { readonly head: readonly string[]; readonly rows: readonly (readonly TableCell[])[] } {
  const axis = panelAxis(study);
  const cells = summary.cells.filter(({ honesty }) => honesty.length > 0);
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const area = ({ honesty }: CellSummary) => mean(honesty.map(({ hypervolume }) => hypervolume));
  const columns = [...Map.groupBy(cells, ({ cell }) => cell[axis] ?? "")];
  const rowName = ({ cell }: CellSummary) =>
    Object.entries(cell).filter(([name]) => name !== axis).map(([, value]) => value).join(", ");
  return {
    head: ["", ...columns.flatMap(([value]) => [value, "honest for, s"])],
    rows: [...new Set(cells.map(rowName))].map((name) => [
      name,
      ...columns.flatMap(([, own]): TableCell[] => {
        const found = own.find((cell) => rowName(cell) === name);
        if (found === undefined) return ["", ""];
        const ends = found.honesty.map(({ honestFor }) =>
          honestFor === undefined ? "to the end" : number(honestFor)
        );
        const isBest = own.every((other) => area(other) <= area(found));
        return [{ text: number(area(found)), isBest }, ends.join(", ")];
      }),
    ]),
  };
}

const HONESTY =
  "The area that a run's frontier dominates, in squared standard deviations, from nothing gained and judges two deviations " +
  "worse on (mean over seeds), and the compute until its panel's first alarm at each seed: a judge, or the variety of the " +
  "pictures, falls while what is trained rises. The panel's judges are not trained on; their pictures are other ones than the " +
  "reported.";

/** A sentence for each panel: which cell is first, and whether the others are behind beyond chance. */
function sentences({ ranked }: Report): readonly string[] {
  return ranked.map(({ of, order }) => {
    const [first, ...rest] = order;
    if (first === undefined) return "";
    const name = ({ cell }: { readonly cell: Readonly<Record<string, string>> }) =>
      Object.entries(cell).filter(([, value]) => value !== of).map(([, value]) => value).join(", ");
    const isClear = (entry: typeof first) => entry.behind.low > 0 || entry.behind.high < 0;
    const level = rest.filter((entry) => !isClear(entry)).map(name);
    const behind = rest.filter(isClear).map(name);
    return `${of}: ${name(first)} is first (${signed(first.improvement)} standard deviations)` +
      (level.length > 0 ? `; not told apart from it: ${level.join("; ")}` : "") +
      (behind.length > 0 ? `; behind it beyond chance: ${behind.join("; ")}` : "") + ".";
  });
}

function method({ study, summary, short, machine }: Report): readonly string[] {
  const { budget, compute, seeds, measure, choose } = study;
  const counted = compute === "cpu"
    ? "CPU seconds, user and system, of the trainer and of the process that runs the model"
    : "seconds of the run's steps on the GPU, without those that waited for rewards";
  return [
    ...short === "" ? [] : [short],
    `Every run trained for ${
      number(budget)
    } s of compute (${counted}), and ended at the iteration nearest to that. ` +
    "What rewards take in services of their own is not in it, the same for each image of every method.",
    `Training seeds: ${seeds.join(", ")}. Judged by ${summary.pictures} pictures: ${
      promptsText(measure)
    }, ` +
    `${measure.imagesPerPrompt} of each from seed ${measure.seed} on, the same for every run and without LoRA, as 8-bit ` +
    `files. Intervals are Student's at 95 %, over ${summary.intervals}${
      summary.intervals === "pictures"
        ? ", so they do not say what another training seed would give"
        : ""
    }.`,
    ...choose === undefined || summary.choices.length === 0 ? [] : [
      `Chosen for each of ${choose.per.join(" and ")} by one rule: of ${
        Object.keys(choose.candidates).join(", ")
      } the one whose runs of ${number(budget * choose.share)} s at seed ${
        choose.seeds.join(", ")
      } improved what they trained most, in standard deviations, on ${
        promptsText(choose.measure)
      } from seed ${choose.measure.seed} on: ${
        summary.choices.map(({ of, candidate }) => `${cellName(of)} ${candidate}`).join("; ")
      }.`,
    ],
    `Measured on ${machine.cores} cores (${machine.cpu}).`,
  ];
}

function promptsText({ prompts }: GridStudy["measure"]): string {
  return prompts === undefined
    ? "the prompts that each run holds out"
    : `the prompts of ${prompts}`;
}

function markdownOf(report: Report): string {
  const { study, command, figures } = report;
  const [main, whole, honest] = [mainTable(report), wholeTable(report), honestyTable(report)];
  return [
    ...studyMarkdown(study, command),
    ...method(report),
    markdownTable(main.head, main.rows),
    sentences(report).map((line) => `- ${line}`).join("\n"),
    ...figures.map(({ name, caption }) => `![${caption}](${name}.png)`),
    ...honest.rows.length === 0
      ? []
      : ["## How long it stays honest", HONESTY, markdownTable(honest.head, honest.rows)],
    "## Every cell",
    markdownTable(whole.head, whole.rows),
    "",
  ].join("\n\n");
}

async function pageOf(report: Report, folder: StudyFolder): Promise<string> {
  const { study, command, figures, summary } = report;
  const [main, whole, honest] = [mainTable(report), wholeTable(report), honestyTable(report)];
  const spent = summary.cells.reduce((sum, cell) => sum + cell.compute * cell.seeds.length, 0);
  const body = [
    studyHead(study, command),
    ...method(report).map((text) => `<p>${escaped(text)}</p>`),
    `<p class="soft">${summary.cells.length} cells, ${duration(spent)} of compute in training.</p>`,
    "<h2>The trained reward after training</h2>",
    htmlTable(main.head, main.rows),
    `<ul>${sentences(report).map((line) => `<li>${escaped(line)}</li>`).join("")}</ul>`,
    ...figures.map(({ svg, caption }) =>
      `<figure>${svg}<figcaption class="soft">${escaped(caption)}</figcaption></figure>`
    ),
    ...honest.rows.length === 0 ? [] : [
      "<h2>How long it stays honest</h2>",
      `<p>${escaped(HONESTY)}</p>`,
      htmlTable(honest.head, honest.rows),
    ],
    "<h2>Every cell</h2>",
    htmlTable(whole.head, whole.rows),
    "<h2>Pictures</h2>",
    ...await Promise.all(
      summary.cells.slice(0, SHOWN_CELLS).map((cell) => cellPictures(cell, folder)),
    ),
  ];
  return htmlPage(study.title, body.join("\n"));
}

async function cellPictures(cell: CellSummary, folder: StudyFolder): Promise<string> {
  const [before, after] = await Promise.all(
    [cell.without, cell.runs[0] ?? ""].map((name) => folder.pictures(name)),
  );
  if (before === undefined || after === undefined || after.length === 0) return "";
  const tiles = (images: readonly Uint8Array[]) => images.map((image) => ({ image, lines: [] }));
  const sheet = await contactSheet([
    { heading: "", tiles: tiles(before) },
    { heading: "", tiles: tiles(after) },
  ], { columns: Math.max(before.length, after.length), tile: 64 });
  const name = cellName(cell.cell);
  return `<h3>${escaped(name)}</h3>${
    htmlPicture(
      sheet,
      `${name}: above without LoRA, below after training, the same prompts and seeds`,
    )
  }`;
}
