import { EXPORTERS, type ExportResult, type ZooResults } from "./zoo_result.ts";

/** Rows of the comparison with PyTorch: an architecture, and what came of each of its exports. */
export function zooRows(results: ZooResults): readonly (readonly string[])[] {
  return Object.entries(results).sort(([a], [b]) => a < b ? -1 : 1).map(([name, of]) => [
    name,
    ...EXPORTERS.map((exporter) => cell(of[exporter])),
  ]);
}

/** How many exports were made, read, and are right, as a list. */
export function zooSummary(results: ZooResults): string {
  const all = Object.values(results).flatMap((of) => Object.values(of));
  const count = (...outcomes: readonly ExportResult["outcome"][]) =>
    all.filter(({ outcome }) => outcomes.includes(outcome)).length;
  const made = count("right", "off", "refused");
  return `- Of ${made} exports of ${Object.keys(results).length} architectures ` +
    `${count("right", "off")} load and ${count("right")} agree.\n` +
    `- PyTorch does not export ${count("unmade")} more, and ONNX Runtime refuses ${
      count("broken")
    }.\n`;
}

function cell(result: ExportResult | undefined): string {
  if (result === undefined) return "not tried";
  switch (result.outcome) {
    case "refused":
      return "refused";
    case "broken":
      return "ONNX Runtime refuses it";
    case "unmade":
      return "PyTorch does not export it";
    case "right":
    case "off": {
      const { outcome, value, gradient, byDifferences, moves } = result;
      const by = byDifferences === true
        ? " (by differences)"
        : moves === undefined
        ? ""
        : ` (moves ${short(moves)})`;
      return `${short(value)}, ${short(gradient)}${by}${outcome === "off" ? ": off" : ""}`;
    }
  }
}

const short = (error: number) => error === 0 ? "0" : error.toExponential(0);
