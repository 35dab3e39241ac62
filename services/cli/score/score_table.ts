import { appendFile, mkdir, readFile, truncate } from "node:fs/promises";
import { dirname, extname } from "node:path";
import { UsageError } from "../command.ts";
import { csvLine, parseCsv } from "./csv.ts";

/** One image's scores. */
export interface Row {
  readonly image: string;
  readonly prompt?: string;
  readonly scores: Readonly<Record<string, number>>;
}

/** What tells a row from all others. */
export function keyOf(id: string, prompt: string | undefined): string {
  return `${id}\n${prompt ?? ""}`;
}

/** The rows of a table that have a score under every label, by image and prompt; none where there is no file. */
export async function readDone(file: string, labels: readonly string[]): Promise<Map<string, Row>> {
  const text = await readFile(file, "utf8").catch(() => "");
  const rows = extname(file).toLowerCase() === ".csv" ? csvRows(text) : jsonlRows(text);
  const whole = rows.filter((r) => labels.every((l) => r.scores[l] !== undefined));
  return new Map(whole.map((r) => [keyOf(r.image, r.prompt), r]));
}

function csvRows(text: string): Row[] {
  const [header = [], ...lines] = parseCsv(text);
  return lines.filter((l) => l.length === header.length).map((cells) => {
    const [image = "", prompt = "", ...values] = cells;
    const scores = values.flatMap((v, i) =>
      v === "" ? [] : [[header[i + 2] ?? "", Number(v)] as const]
    );
    return { image, ...(prompt !== "" && { prompt }), scores: Object.fromEntries(scores) };
  });
}

function jsonlRows(text: string): Row[] {
  return text.split("\n").flatMap((line) => {
    try {
      const row: unknown = JSON.parse(line);
      return isRow(row) ? [row] : [];
    } catch {
      // The last line of an interrupted run may be cut short.
      return [];
    }
  });
}

function isRow(value: unknown): value is Row {
  return typeof value === "object" && value !== null && "image" in value && "scores" in value &&
    typeof value.image === "string" && typeof value.scores === "object" && value.scores !== null;
}

/** Appends rows one by one, so that an interrupted run loses nothing; a line cut short by one is taken away. */
export async function openTable(file: string, labels: readonly string[]) {
  await mkdir(dirname(file), { recursive: true });
  const before = await readFile(file).catch(() => new Uint8Array());
  const whole = before.lastIndexOf(10) + 1;
  if (whole < before.length) await truncate(file, whole);
  if (extname(file).toLowerCase() === ".jsonl") {
    return (row: Row) => appendFile(file, `${JSON.stringify(row)}\n`);
  }
  const text = await readFile(file, "utf8").catch(() => "");
  const [header] = parseCsv(text);
  const columns = header?.slice(2) ?? labels;
  if (labels.some((l) => !columns.includes(l))) {
    throw new UsageError(
      `${file} has columns ${columns.join(", ")}, expected ${labels.join(", ")}`,
    );
  }
  if (header === undefined) await appendFile(file, `${csvLine(["image", "prompt", ...columns])}\n`);
  return (row: Row) =>
    appendFile(
      file,
      `${csvLine([row.image, row.prompt ?? "", ...columns.map((c) => row.scores[c] ?? "")])}\n`,
    );
}
