import { readdir, readFile, stat } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { z } from "zod";
import { checkValue, decodeText } from "../../../base/mod.ts";
import { UsageError } from "../command.ts";
import { parseCsv } from "../score/csv.ts";

/** A prompt of a benchmark. */
export interface ListedPrompt {
  readonly prompt: string;
  /** "all" where the list has none. */
  readonly category: string;
  /** Its place within its category, from 0: by it folders of pictures name their files. */
  readonly index: number;
  /** Name of its picture in folders of pictures, without an ending; of prompts that a folder's pictures have. */
  readonly file?: string;
  /** Objects that a detector must see, and those that it must not; in GenEval's lists. */
  readonly objects?: {
    readonly include: readonly string[];
    readonly exclude: readonly string[];
  };
}

/**
 * Reads prompts by category:
 *
 * - a folder of JSON files, each a list of prompts, its name the category, as HPS v2's benchmark has anime.json,
 *   concept-art.json, paintings.json and photo.json; or a folder with one list of the forms below;
 * - `.tsv`, as PartiPrompts: columns Prompt and Category;
 * - `.jsonl`, as GenEval: "prompt", its category "tag", and objects to "include" and "exclude";
 * - any other text, one prompt a line; a line that begins with "#" names the category of those that follow.
 *
 * Throws `UsageError` naming the file, the line, what was found and what was expected.
 */
export async function readPromptList(path: string): Promise<readonly ListedPrompt[]> {
  const found = await promptsAt(path);
  if (found.length === 0) throw new UsageError(`${path} holds no prompt`);
  const counts = new Map<string, number>();
  return found.map((entry) => {
    const index = counts.get(entry.category) ?? 0;
    counts.set(entry.category, index + 1);
    return { ...entry, index };
  });
}

type Found = Omit<ListedPrompt, "index">;

async function promptsAt(path: string): Promise<readonly Found[]> {
  const info = await stat(path).catch(() => undefined);
  if (info === undefined) throw new UsageError(`No such file or folder: ${path}`);
  if (info.isDirectory()) return await ofFolder(path);
  const text = decodeText(await readFile(path), path);
  switch (extname(path).toLowerCase()) {
    case ".json":
      return jsonPrompts(text, path);
    case ".tsv":
      return tsvPrompts(text, path);
    case ".jsonl":
      return jsonlPrompts(text, path);
    default:
      return textPrompts(text);
  }
}

async function ofFolder(path: string): Promise<readonly Found[]> {
  const names = (await readdir(path)).sort();
  const lists = (ending: string) => names.filter((name) => extname(name).toLowerCase() === ending);
  const json = lists(".json");
  const files = json.length > 0
    ? json
    : [".tsv", ".jsonl", ".txt"].map(lists).find((found) => found.length > 0) ?? [];
  if (files.length === 0) {
    throw new UsageError(
      `${path} has no list of prompts: expected CATEGORY.json as HPS v2's benchmark, or one .tsv, .jsonl or .txt`,
    );
  }
  if (json.length === 0 && files.length > 1) {
    throw new UsageError(`${path} has ${files.join(" and ")}: name one of them`);
  }
  return (await Promise.all(files.map((name) => promptsAt(join(path, name))))).flat();
}

function jsonPrompts(text: string, path: string): readonly Found[] {
  const category = basename(path).slice(0, -".json".length);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new UsageError(`${path}: not JSON`);
  }
  const parsed = z.array(z.string().trim().min(1)).safeParse(value);
  if (parsed.success) return parsed.data.map((prompt) => ({ prompt, category }));
  throw new UsageError(`${path}: expected a list of prompts, each of them text`);
}

function tsvPrompts(text: string, path: string): readonly Found[] {
  const [header = [], ...rows] = parseCsv(text, "\t");
  const column = (name: string) => {
    const at = header.findIndex((cell) => cell.trim().toLowerCase() === name);
    if (at >= 0) return at;
    throw new UsageError(`${path}:1: no column "${name}", found ${header.join(", ") || "nothing"}`);
  };
  const [prompt, category] = [column("prompt"), column("category")];
  return rows.map((cells, i) => {
    const found = cells[prompt]?.trim() ?? "";
    if (found === "") throw new UsageError(`${path}:${i + 2}: "prompt" is empty`);
    return { prompt: found, category: cells[category]?.trim() || "all" };
  });
}

const object = z.looseObject({ class: z.string().min(1), color: z.string().optional() });
const genEval = z.looseObject({
  prompt: z.string().trim().min(1),
  tag: z.string().min(1).default("all"),
  include: z.array(object).default([]),
  exclude: z.array(object).default([]),
});

function jsonlPrompts(text: string, path: string): readonly Found[] {
  return text.split("\n").flatMap((line, i): Found[] => {
    if (line.trim() === "") return [];
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      throw new UsageError(`${path}:${i + 1}: not JSON`);
    }
    const checked = checkValue(genEval, value);
    if (checked.fault !== undefined) {
      const { path: names, message } = checked.fault;
      throw new UsageError(`${path}:${i + 1}: ${names.join(".") || "line"} ${message}`);
    }
    const { prompt, tag, include, exclude } = checked.data;
    const names = (objects: readonly z.infer<typeof object>[]) =>
      objects.map((o) => o.color === undefined ? o.class : `${o.color} ${o.class}`);
    // An object that is wanted as well is excluded in greater number, which a detector's score does not say.
    const others = exclude.filter((o) => !include.some((wanted) => wanted.class === o.class));
    const objects = { include: names(include), exclude: names(others) };
    return [{ prompt, category: tag, ...(include.length + others.length > 0 && { objects }) }];
  });
}

function textPrompts(text: string): readonly Found[] {
  let category = "all";
  return text.split(/\r\n|\n|\r/).map((line) => line.trim()).flatMap((line): Found[] => {
    if (line.startsWith("#")) category = line.slice(1).trim() || "all";
    return line === "" || line.startsWith("#") ? [] : [{ prompt: line, category }];
  });
}
