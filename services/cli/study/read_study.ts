import { basename, dirname, join, resolve } from "node:path";
import { parse, stringify } from "yaml";
import { nearest } from "../../../base/mod.ts";
import { ConfigError, parseConfigText, readText } from "../../launch/mod.ts";
import { UsageError } from "../command.ts";
import { ROOT } from "../stack/read_stack.ts";
import { deepMerge, type Fields, isFields } from "./deep_merge.ts";
import { type Study, studySchema } from "./study_schema.ts";

/** Studies that come with the project. */
const STUDIES = join(ROOT, "configs", "studies");

/** A study and where it comes from. */
export interface StudyFile {
  /** The file's name without its ending: the name of the study. */
  readonly name: string;
  readonly path: string;
  readonly study: Study;
}

/**
 * Reads a study by its name in `configs/studies`, or a file. One that `extends` another is laid over it. Throws
 * `UsageError` with a line for each fault.
 */
export async function readStudy(given: string): Promise<StudyFile> {
  const path = await pathOf(given);
  try {
    const text = await readText(path);
    const name = basename(path).replace(/\.ya?ml$/, "");
    const own: unknown = parse(text);
    if (!isFields(own) || own["extends"] === undefined) {
      return { name, path, study: parseConfigText(withKind(text, own), studySchema, { path }) };
    }
    // Faults of what is put together cannot have a line of one file.
    const whole = stringify(await extended(path, own));
    return { name, path, study: parseConfigText(whole, studySchema, { path }) };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/** Most studies of which each extends the next. */
const DEEPEST = 8;

async function extended(path: string, own: Fields, depth = 0): Promise<Fields> {
  const { extends: below, ...fields } = own;
  if (below === undefined) return { kind: "grid", ...fields };
  if (typeof below !== "string") {
    throw new ConfigError(`${path}: extends is ${JSON.stringify(below)}, expected a file`);
  }
  const file = resolve(dirname(path), below);
  const value: unknown = parse(await readText(file));
  if (!isFields(value)) throw new ConfigError(`${file}: expected fields`);
  if (depth === DEEPEST) {
    throw new ConfigError(`${file}: extends: more than ${DEEPEST} studies extend one another`);
  }
  return deepMerge(await extended(file, value, depth + 1), fields);
}

/** A study without a kind is a grid; the union is told apart by it. */
function withKind(text: string, value: unknown): string {
  // At the end, so that every other line keeps its number.
  return isFields(value) && value["kind"] === undefined ? `${text}\nkind: grid\n` : text;
}

async function pathOf(given: string): Promise<string> {
  const isFile = (path: string) => Deno.stat(path).then((s) => s.isFile, () => false);
  const own = join(STUDIES, `${given}.yaml`);
  if (/^[a-z0-9_-]+$/i.test(given) && await isFile(own)) return own;
  if (await isFile(given)) return resolve(given);
  const names = await studyNames();
  const near = nearest(given, names);
  throw new UsageError(
    `No study "${given}"${
      near === undefined ? "" : `, did you mean ${near}?`
    }: expected a file, or ${names.join(", ")}`,
  );
}

/** Names of the studies that come with the project. */
export async function studyNames(): Promise<readonly string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(STUDIES)) {
    if (name.endsWith(".yaml")) names.push(name.slice(0, -".yaml".length));
  }
  return names.sort();
}
