import { contactSheet, linePlot, type Panel, type Series, type Tile } from "../../picture/mod.ts";
import { escaped, htmlPage, htmlPicture, htmlTable } from "../../report/html.ts";
import { markdownTable } from "../../report/markdown.ts";
import { csvLine } from "../../score/csv.ts";
import type { StudyFolder } from "../study_folder.ts";
import { studyHead, studyMarkdown, writeFigure } from "../study_page.ts";
import type { CompositionStudy } from "../study_schema.ts";
import { decidedAt } from "./decided_at.ts";
import { changed, type CompositionPoint, pictureFile } from "./run_composition.ts";

const COLORS = ["#2b59c3", "#c8431d", "#2f8f4e", "#8a4fbf"];
const CAPTIONS = {
  prompt:
    "Pictures that CLIP finds nearer to the prompt that replaced the first one; pale: 95 % (Wilson).",
  noise:
    "How far the layout is from that without replacement, as a share of the distance of unrelated pictures.",
};
const TITLES = {
  prompt: "prompt replaced: share that shows it",
  noise: "noise replaced: change of the layout",
};

/** Writes study.json, results.csv, the figure, summary.md and index.html of a study of composition. */
export async function writeCompositionReport(
  folder: StudyFolder,
  points: readonly CompositionPoint[],
  { study, command }: { readonly study: CompositionStudy; readonly command: string },
): Promise<void> {
  const kinds = (["prompt", "noise"] as const).filter((what) =>
    points.some((p) => p.what === what)
  );
  const models = Object.keys(study.models);
  const of = (model: string, what: "prompt" | "noise") =>
    points.filter((p) => p.model === model && p.what === what && p.from >= 0);
  const share = ({ from, steps }: CompositionPoint) => from / steps;
  const panels = kinds.map((what): Panel => ({
    title: TITLES[what],
    series: models.flatMap((model, i): Series[] => {
      const own = of(model, what).map((point) => ({ x: share(point), ...changed(point, points) }));
      const color = COLORS[i % COLORS.length] ?? "";
      const bound = (end: "low" | "high"): Series => ({
        name: "",
        color: `${color}44`,
        points: own.map((p) => [p.x, p[end]]),
      });
      return [
        ...what === "prompt" ? [bound("low"), bound("high")] : [],
        { name: model, color, points: own.map(({ x, mean }) => [x, mean]) },
      ];
    }),
  }));
  const svg = linePlot(panels, "share of the steps that were done when it was replaced");
  await writeFigure(folder, { name: "composition", svg });
  const rows = models.flatMap((model) =>
    kinds.flatMap((what) =>
      of(model, what).map((point) => ({ model, what, point, ...changed(point, points) }))
    )
  );
  const head = ["model", "replaced", "steps done", "of", "still changes", "95 %"];
  const cells = rows.map(({ model, what, point, mean, low, high }) => [
    ...[model, what, String(point.from), String(point.steps), mean.toFixed(2)],
    low === high ? "-" : `${low.toFixed(2)} to ${high.toFixed(2)}`,
  ]);
  const sentences = models.flatMap((model) =>
    kinds.map((what) => {
      const curve = of(model, what).map((p) => [share(p), changed(p, points).mean] as const);
      const half = decidedAt(curve);
      const text = half === undefined
        ? "half of it is never decided"
        : `half of it is decided after ${(100 * half).toFixed(0)} % of the steps`;
      return `${model}, ${what}: ${text}.`;
    })
  );
  const { pictures = 0 } = points[0] ?? {};
  const method =
    `${pictures} pictures a point: the prompts of ${study.prompts}, each replaced by the next, at seeds ${
      study.seeds.join(", ")
    }; ${study.sampler.steps} steps, guidance ${study.guidance}.`;
  const csv = rows.map(({ model, what, point, mean, low, high }) =>
    csvLine([model, what, point.from, point.steps, mean, low, high, point.distance, point.pictures])
  );
  const columns = [
    "model",
    "replaced",
    "from",
    "steps",
    "changed",
    "low",
    "high",
    "distance",
    "pictures",
  ];
  await folder.writeFile("results.csv", [csvLine(columns), ...csv, ""].join("\n"));
  await folder.writeFile(
    "study.json",
    `${JSON.stringify({ command, study, points, sentences }, undefined, 1)}\n`,
  );
  const captions = kinds.map((what) => CAPTIONS[what]).join(" ");
  await folder.writeFile(
    "summary.md",
    [
      ...studyMarkdown(study, command),
      method,
      sentences.map((line) => `- ${line}`).join("\n"),
      ...[`![${captions}](composition.png)`, captions, markdownTable(head, cells), ""],
    ].join("\n\n"),
  );
  const sheets = await Promise.all(
    models.flatMap((model) =>
      kinds.map((what) => sheetOf(of(model, what), folder, `${model}, ${what} replaced`))
    ),
  );
  await folder.writeFile(
    "index.html",
    htmlPage(
      study.title,
      [
        studyHead(study, command),
        `<p>${escaped(method)}</p>`,
        `<ul>${sentences.map((line) => `<li>${escaped(line)}</li>`).join("")}</ul>`,
        `<figure>${svg}<figcaption class="soft">${escaped(captions)}</figcaption></figure>`,
        ...sheets,
        htmlTable(head, cells),
      ].join("\n"),
    ),
  );
}

/** A row of pictures for each step at which something was replaced. */
async function sheetOf(
  points: readonly CompositionPoint[],
  folder: StudyFolder,
  title: string,
): Promise<string> {
  const sections = await Promise.all(points.map(async (point) => {
    const read = await Promise.all(
      Array.from({ length: 6 }, (_, i) => folder.readFile(pictureFile(point, i))),
    );
    const tiles = read.flatMap((image): Tile[] =>
      image === undefined ? [] : [{ image, lines: [] }]
    );
    return { heading: `after ${point.from} steps`, tiles };
  }));
  if (sections.every(({ tiles }) => tiles.length === 0)) return "";
  const sheet = await contactSheet(sections, { columns: 6, tile: 64 });
  return `<h2>${escaped(title)}</h2>${htmlPicture(sheet, `${title}, from each step on`)}`;
}
