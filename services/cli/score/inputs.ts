import { glob, readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, isAbsolute, join, resolve } from "node:path";
import { decodeText } from "../../../base/mod.ts";
import { UsageError } from "../command.ts";
import { delimiterOf, parseCsv } from "./csv.ts";

/** One image to score: where it is and the prompt it goes with. */
export interface ScoreInput {
  /** As named by the user; "file.safetensors#name[3]" for the fourth image of a tensor. */
  readonly id: string;
  readonly file: string;
  /** Tensor name in a safetensors file, "" for its only one; absent for pictures. */
  readonly tensor?: string;
  readonly prompt?: string;
}

const PICTURES = new Set([".png", ".jpg", ".jpeg", ".webp"]);
const LISTS = [".csv", ".tsv", ".jsonl"];
const MAX_LIST_BYTES = 256 * 2 ** 20;

/**
 * Resolves what the user named to images, in a fixed order: a picture, a folder of pictures (not its subfolders), a
 * glob, `file.safetensors#name`, or a .csv/.tsv/.jsonl list with columns `image` (or `file_name`, or see `COLUMNS`) and
 * optionally `prompt` (or `text`, `caption`, `title`), paths relative to the list. A folder's metadata.jsonl or metadata.csv gives its pictures' prompts. `prompt` applies where the list gives none; where a picture has a text file of the same stem beside
 * it ("cat.png", "cat.txt"), that is its prompt.
 */
export async function resolveInputs(
  names: readonly string[],
  prompt: string | undefined,
): Promise<readonly ScoreInput[]> {
  const all: ScoreInput[] = [];
  for (const name of names) {
    const found = await resolveOne(name, prompt);
    if (found.length === 0) throw new UsageError(`No images: ${name} holds no PNG, JPEG or WebP`);
    all.push(...found);
  }
  return all;
}

async function resolveOne(name: string, prompt: string | undefined): Promise<ScoreInput[]> {
  const hash = name.indexOf(".safetensors#");
  if (hash >= 0) {
    const cut = hash + ".safetensors".length;
    const input = { id: name, file: name.slice(0, cut), tensor: name.slice(cut + 1) };
    return [prompt === undefined ? input : { ...input, prompt }];
  }
  const info = await stat(name).catch(() => undefined);
  if (info?.isDirectory()) return await pictures(join(name, "*"), prompt, await metadataOf(name));
  if (info !== undefined) {
    const kind = extname(name).toLowerCase();
    if (LISTS.includes(kind)) return await readList(name, prompt);
    // The only tensor of the file; where there are several, loading says so.
    if (kind === ".safetensors") {
      return [{ id: name, file: name, tensor: "", ...(prompt !== undefined && { prompt }) }];
    }
    return [await picture(name, prompt)];
  }
  if (/[*?[{]/.test(name)) return await pictures(name, prompt);
  throw new UsageError(`No such file or folder: ${name}`);
}

async function pictures(
  pattern: string,
  prompt: string | undefined,
  captions: ReadonlyMap<string, string> = new Map(),
): Promise<ScoreInput[]> {
  const files: string[] = [];
  for await (const file of glob(pattern)) {
    if (PICTURES.has(extname(file).toLowerCase())) files.push(file);
  }
  files.sort();
  return await Promise.all(
    files.map((file) => picture(file, prompt ?? captions.get(basename(file)))),
  );
}

async function picture(file: string, prompt: string | undefined): Promise<ScoreInput> {
  const caption = prompt ?? await captionBeside(file);
  return { id: file, file, ...(caption !== undefined && { prompt: caption }) };
}

async function captionBeside(file: string): Promise<string | undefined> {
  const path = join(dirname(file), `${basename(file, extname(file))}.txt`);
  const bytes = await readFile(path).catch(() => undefined);
  return bytes && decodeText(bytes, path).trim();
}

/** Captions by file name, of the list that Hugging Face's image folders have beside their pictures. */
async function metadataOf(folder: string): Promise<ReadonlyMap<string, string>> {
  for (const name of ["metadata.jsonl", "metadata.csv"]) {
    const list = join(folder, name);
    if ((await stat(list).catch(() => undefined))?.isFile() !== true) continue;
    const rows = await rowsOf(list);
    return new Map(
      rows.flatMap(({ image, prompt }) => prompt === undefined ? [] : [[image, prompt]]),
    );
  }
  return new Map();
}

async function readList(list: string, prompt: string | undefined): Promise<ScoreInput[]> {
  const rows = await rowsOf(list);
  return rows.map(({ image, prompt: own }) => {
    const cut = image.indexOf(".safetensors#");
    const path = cut < 0 ? image : image.slice(0, cut + ".safetensors".length);
    const file = isAbsolute(path) ? path : resolve(dirname(list), path);
    const text = own ?? prompt;
    return {
      id: image,
      file,
      ...(cut >= 0 && { tensor: image.slice(cut + ".safetensors#".length) }),
      ...(text !== undefined && { prompt: text }),
    };
  });
}

async function rowsOf(list: string): Promise<Row[]> {
  const { size } = await stat(list);
  if (size > MAX_LIST_BYTES) {
    throw new UsageError(`${list} has ${size} bytes, at most ${MAX_LIST_BYTES} are read`);
  }
  const text = decodeText(await readFile(list), list);
  return extname(list).toLowerCase() === ".jsonl" ? jsonlRows(list, text) : csvRows(list, text);
}

/** Names of both columns, the likeliest first: ours, those of Hugging Face's image folders, of open_clip and of trainers. */
const COLUMNS = {
  image: ["image", "file_name", "filepath", "image_path", "path", "filename", "file"],
  prompt: ["prompt", "text", "caption", "title"],
} as const;

interface Row {
  readonly image: string;
  readonly prompt?: string;
}

function csvRows(list: string, text: string): Row[] {
  // Excel is told the delimiter by a line of its own.
  const [, said] = /^sep=(.)[\r\n]+/.exec(text) ?? [];
  const body = said === undefined ? text : text.slice(`sep=${said}`.length);
  const [header = [], ...lines] = parseCsv(body, said ?? delimiterOf(text));
  const names = header.map((cell) => cell.trim().toLowerCase());
  const [image, prompt] = [COLUMNS.image, COLUMNS.prompt].map((known) =>
    known.map((name) => names.indexOf(name)).find((at) => at >= 0) ?? -1
  );
  if (image === undefined || image < 0) {
    throw new UsageError(
      `${list}:1: no column "image" or "file_name" (or ${
        COLUMNS.image.slice(2).join(", ")
      }), found ${header.join(", ") || "nothing"}`,
    );
  }
  return lines.map((cells, i) => {
    const path = cells[image];
    if (path === undefined || path === "") {
      throw new UsageError(`${list}:${i + 2}: "image" is empty`);
    }
    const own = prompt === undefined || prompt < 0 ? undefined : cells[prompt];
    return { image: path, ...(own !== undefined && own !== "" && { prompt: own }) };
  });
}

function jsonlRows(list: string, text: string): Row[] {
  return text.split("\n").flatMap((line, i) => {
    if (line.trim() === "") return [];
    let row: unknown;
    try {
      row = JSON.parse(line);
    } catch {
      throw new UsageError(`${list}:${i + 1}: not JSON`);
    }
    const field = (known: readonly string[]) => {
      if (typeof row !== "object" || row === null) return undefined;
      const values = known.map((name): unknown => Reflect.get(Object(row), name));
      return values.find((value) => typeof value === "string");
    };
    const image = field(COLUMNS.image);
    if (image === undefined) {
      throw new UsageError(`${list}:${i + 1}: no text field "image" or "file_name"`);
    }
    const own = field(COLUMNS.prompt);
    return [{ image, ...(own !== undefined && { prompt: own }) }];
  });
}
