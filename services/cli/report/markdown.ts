import type { TableCell } from "./html.ts";

/** A table in Markdown; the first column stands to the left, the others to the right. */
export function markdownTable(
  head: readonly string[],
  rows: readonly (readonly TableCell[])[],
): string {
  const text = (cell: TableCell) => {
    const { text, isBest } = typeof cell === "string" ? { text: cell, isBest: false } : cell;
    const safe = text.replaceAll("|", "\\|").replaceAll("\n", " ");
    return isBest ? `**${safe}**` : safe;
  };
  const line = (cells: readonly TableCell[]) => `| ${cells.map(text).join(" | ")} |`;
  const rule = `| ${head.map((_, i) => i === 0 ? "---" : "---:").join(" | ")} |`;
  return [line(head), rule, ...rows.map(line)].join("\n");
}
