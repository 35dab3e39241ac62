import { linePlot, type Panel, type Series } from "../../picture/mod.ts";
import { escaped, htmlPage, htmlTable } from "../../report/html.ts";
import { markdownTable } from "../../report/markdown.ts";
import { csvLine } from "../../score/csv.ts";
import type { StudyFolder } from "../study_folder.ts";
import { studyHead, studyMarkdown, writeFigure } from "../study_page.ts";
import type { GradientNormStudy } from "../study_schema.ts";
import type { MeasuredNorms } from "./run_gradient_norm.ts";

const WAYS = [
  { name: "through x", stops: false, color: "#c8431d", pale: "#f0c3b4" },
  { name: "stop-gradient", stops: true, color: "#2b59c3", pale: "#b9c6e8" },
] as const;
/** K of the table's rows, as far as there are so many steps. */
const ROWS = [1, 2, 5, 10, 15, 20, 30, 40, 50];

/** Least, median and greatest of numbers. */
export function spread(values: readonly number[]): readonly [number, number, number] {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const [low = NaN, high = NaN] = [sorted[Math.floor(middle)], sorted[Math.ceil(middle)]];
  return [sorted[0] ?? NaN, (low + high) / 2, sorted.at(-1) ?? NaN];
}

/** Writes study.json, results.csv, the figure, summary.md and index.html of a study of the gradient's norm. */
export async function writeGradientNormReport(
  folder: StudyFolder,
  measured: readonly MeasuredNorms[],
  { study, command }: { readonly study: GradientNormStudy; readonly command: string },
): Promise<void> {
  const { steps: T } = study.sampler;
  const loras = [...new Set(measured.map(({ lora }) => lora))];
  const spreads = (lora: string, stops: boolean) => {
    const own = measured.filter((m) => m.lora === lora && m.stops === stops);
    return Array.from({ length: T }, (_, k) => spread(own.map(({ norms }) => norms[k] ?? NaN)));
  };
  const panels = loras.map((lora): Panel => ({
    title: `${lora}: log10 of the norm`,
    series: WAYS.flatMap(({ name, stops, color, pale }): Series[] => {
      const found = spreads(lora, stops);
      const curve = (at: 0 | 1 | 2) =>
        found.map((three, k) => [k + 1, Math.log10(three[at])] as const);
      return [
        { name: "", color: pale, points: curve(0) },
        { name: "", color: pale, points: curve(2) },
        { name, color, points: curve(1) },
      ];
    }),
  }));
  const label = `K of DRaFT-K, T = ${T}; median, least and greatest of ${study.seeds.length} seeds`;
  const svg = linePlot(panels, label);
  await writeFigure(folder, { name: "gradient_norm", svg });
  const head = ["K", ...loras.flatMap((lora) => WAYS.map(({ name }) => `${lora}, ${name}`))];
  const rows = ROWS.filter((k) => k <= T).map((k) => [
    String(k),
    ...loras.flatMap((lora) =>
      WAYS.map(({ stops }) => {
        const [least, median, greatest] = spreads(lora, stops)[k - 1] ?? spread([]);
        const short = (v: number) => v.toPrecision(2);
        return `${short(median)} (${short(least)}, ${short(greatest)})`;
      })
    ),
  ]);
  const lines = measured.flatMap(({ lora, seed, stops, norms }) =>
    norms.map((norm, k) =>
      csvLine([lora, seed, stops ? "stop-gradient" : "through x", k + 1, norm])
    )
  );
  await folder.writeFile(
    "results.csv",
    [csvLine(["lora", "seed", "gradient", "K", "norm"]), ...lines, ""].join("\n"),
  );
  await folder.writeFile(
    "study.json",
    `${JSON.stringify({ command, study, measured }, undefined, 1)}\n`,
  );
  const method =
    `L2 norm of the LoRA gradient of one image, median of ${study.seeds.length} seeds, each with a prompt of ` +
    `its own (${study.prompts}), and least and greatest; T ${T}, guidance ${study.guidance}, rank ${study.rank}.`;
  await folder.writeFile(
    "summary.md",
    [
      ...studyMarkdown(study, command),
      method,
      ...[`![${label}](gradient_norm.png)`, markdownTable(head, rows), ""],
    ].join("\n\n"),
  );
  await folder.writeFile(
    "index.html",
    htmlPage(
      study.title,
      [
        studyHead(study, command),
        `<p>${escaped(method)}</p><figure>${svg}</figure>`,
        htmlTable(head, rows),
      ].join("\n"),
    ),
  );
}
