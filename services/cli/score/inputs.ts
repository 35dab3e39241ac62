import { glob, readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, isAbsolute, join, resolve } from "node:path";
import { UsageError } from "../command.ts";
import { parseCsv } from "./csv.ts";

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
const MAX_LIST_BYTES = 256 * 2 ** 20;

/**
 * Resolves what the user named to images, in a fixed order: a picture, a folder of pictures (not its subfolders), a
 * glob, `file.safetensors#name`, or a .csv/.jsonl list with columns `image` and optionally `prompt` (paths relative
 * to the list). `prompt` applies where the list gives none; where a picture has a text file of the same stem beside
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
  if (info?.isDirectory()) return await pictures(join(name, "*"), prompt);
  if (info !== undefined) {
    const kind = extname(name).toLowerCase();
    if (kind === ".csv" || kind === ".jsonl") return await readList(name, prompt);
    // The only tensor of the file; where there are several, loading says so.
    if (kind === ".safetensors") {
      return [{ id: name, file: name, tensor: "", ...(prompt !== undefined && { prompt }) }];
    }
    return [await picture(name, prompt)];
  }
  if (/[*?[{]/.test(name)) return await pictures(name, prompt);
  throw new UsageError(`No such file or folder: ${name}`);
}

async function pictures(pattern: string, prompt: string | undefined): Promise<ScoreInput[]> {
  const files: string[] = [];
  for await (const file of glob(pattern)) {
    if (PICTURES.has(extname(file).toLowerCase())) files.push(file);
  }
  files.sort();
  return await Promise.all(files.map((file) => picture(file, prompt)));
}

async function picture(file: string, prompt: string | undefined): Promise<ScoreInput> {
  const caption = prompt ?? await captionBeside(file);
  return { id: file, file, ...(caption !== undefined && { prompt: caption }) };
}

async function captionBeside(file: string): Promise<string | undefined> {
  const path = join(dirname(file), `${basename(file, extname(file))}.txt`);
  const text = await readFile(path, "utf8").catch(() => undefined);
  return text?.trim();
}

async function readList(list: string, prompt: string | undefined): Promise<ScoreInput[]> {
  const { size } = await stat(list);
  if (size > MAX_LIST_BYTES) {
    throw new UsageError(`${list} has ${size} bytes, at most ${MAX_LIST_BYTES} are read`);
  }
  const text = await readFile(list, "utf8");
  const rows = extname(list).toLowerCase() === ".csv" ? csvRows(list, text) : jsonlRows(list, text);
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

interface Row {
  readonly image: string;
  readonly prompt?: string;
}

function csvRows(list: string, text: string): Row[] {
  const [header, ...lines] = parseCsv(text);
  const [image, prompt] = ["image", "prompt"].map((c) => header?.indexOf(c) ?? -1);
  if (image === undefined || image < 0) {
    throw new UsageError(`${list}:1: no column "image", found ${header?.join(", ") ?? "nothing"}`);
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
    if (
      typeof row !== "object" || row === null || !("image" in row) || typeof row.image !== "string"
    ) {
      throw new UsageError(`${list}:${i + 1}: no text field "image"`);
    }
    const own = "prompt" in row && typeof row.prompt === "string" ? row.prompt : undefined;
    return [{ image: row.image, ...(own !== undefined && { prompt: own }) }];
  });
}
