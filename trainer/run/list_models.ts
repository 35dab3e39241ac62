import type { Dirent } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { DISCRETE_SAMPLER_KINDS, type SamplerKind } from "../samplers/mod.ts";
import { readRunPipeline } from "./run_pipeline.ts";

/** A folder in the diffusers layout. */
export interface FoundModel {
  /** Relative to the root, with "/". */
  readonly path: string;
  /** Class of its pipeline, "" where its index does not say. */
  readonly pipeline: string;
  /** Kinds of samplers that it takes, its default first. */
  readonly samplers: readonly SamplerKind[];
  /** Why it cannot be used; "" where it can. */
  readonly fault: string;
}

/** What lies below a root of models. */
export interface ModelRoot {
  readonly models: readonly FoundModel[];
  /** Text files that may hold prompts, relative to the root, with "/". */
  readonly promptFiles: readonly string[];
}

/** Folders below the root that are looked into: a hub's cache nests a snapshot this deep. */
const DEPTH = 4;
/** Most of each that are answered. */
const MOST = 500;

/** Text files that hold no prompts: parts of tokenizers, and what comes with models for people to read. */
const NO_PROMPTS =
  /(?:^|\/)(?:merges\.txt|vocab\.txt|(?:licen[cs]e|notice|readme|requirements)[^/]*(?:\/|$))/i;

const indexSchema = z.looseObject({ _class_name: z.string() });

/** Lists the models and text files below a root, by path. Hidden folders, links and parts of models are passed over. */
export async function listModels(root: string): Promise<ModelRoot> {
  const [models, promptFiles]: [FoundModel[], string[]] = [[], []];
  const visit = async (path: string, depth: number): Promise<void> => {
    const entries: Dirent[] = await readdir(join(root, path), { withFileTypes: true })
      .catch(() => []);
    if (entries.some((entry) => entry.isFile() && entry.name === "model_index.json")) {
      if (models.length < MOST) models.push(await found(root, path));
      return;
    }
    for (const entry of entries.toSorted((a, b) => a.name < b.name ? -1 : 1)) {
      const inner = path === "" ? entry.name : `${path}/${entry.name}`;
      if (entry.name.startsWith(".")) continue;
      if (entry.isDirectory() && depth < DEPTH) await visit(inner, depth + 1);
      const isText = entry.isFile() && inner.endsWith(".txt") && !NO_PROMPTS.test(inner);
      if (isText && promptFiles.length < MOST) promptFiles.push(inner);
    }
  };
  await visit("", 0);
  return { models, promptFiles };
}

async function found(root: string, path: string): Promise<FoundModel> {
  const folder = join(root, path);
  const index = await readFile(join(folder, "model_index.json"), "utf8")
    .then((text) => indexSchema.safeParse(JSON.parse(text)).data, () => undefined)
    .catch(() => undefined);
  const model = { path: path === "" ? "." : path, pipeline: index?._class_name ?? "" };
  try {
    const { defaults: { samplerKind, isFlow } } = await readRunPipeline(folder);
    const others = isFlow ? ["dpmsolver++" as const] : DISCRETE_SAMPLER_KINDS;
    return { ...model, samplers: [...new Set([samplerKind, ...others])], fault: "" };
  } catch (error) {
    const fault = error instanceof Error ? error.message : String(error);
    return { ...model, samplers: [], fault };
  }
}
