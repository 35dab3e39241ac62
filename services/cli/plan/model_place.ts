import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import {
  PUBLISHED_PIPELINES,
  type PublishedPipeline,
  writeOutline,
} from "../../../models/published/mod.ts";
import { UsageError } from "../command.ts";
import { KNOWN_MODELS } from "../fetch/known_models.ts";
import { typed } from "../typed.ts";

/** Where the model of a run is read from; what was made for that goes when it is disposed of. */
export interface ModelPlace extends AsyncDisposable {
  /** Folder that the run's `model` is relative to. */
  readonly root: string;
  /** What a person should know of it. */
  readonly note?: string;
}

/**
 * The folder of models; or, where it does not have a published model yet, a folder with an outline of that, whose shapes
 * are the model's. Throws `UsageError` where there is neither.
 */
export async function modelPlace(models: string, model: string): Promise<ModelPlace> {
  const kept = { root: models, [Symbol.asyncDispose]: () => Promise.resolve() };
  if (await exists(join(models, model))) return kept;
  const name = publishedName(model);
  if (name === undefined) {
    if (await exists(models)) return kept;
    throw new UsageError(`Folder of models ${models} is not there: --models DIR`);
  }
  const root = await mkdtemp(join(tmpdir(), "drtune-plan-"));
  const remove = () => rm(root, { recursive: true, force: true });
  try {
    await Deno.mkdir(join(root, dirname(model)), { recursive: true });
    await writeOutline(join(root, model), name);
  } catch (error) {
    await remove();
    throw error;
  }
  return {
    root,
    note: `${model} is not in ${models}: estimated from the published shapes of ${name}, which "${
      typed(`fetch ${name}`)
    }" brings`,
    [Symbol.asyncDispose]: remove,
  };
}

/** The published pipeline that a run names by the name `fetch` has for it, or by its repository's. */
export function publishedName(model: string): PublishedPipeline | undefined {
  const wanted = basename(model).replace(/^.*--/, "");
  return Object.keys(PUBLISHED_PIPELINES).filter(isPublished).find((name) =>
    wanted === name || wanted === basename(KNOWN_MODELS[name]?.repo ?? name)
  );
}

function isPublished(name: string): name is PublishedPipeline {
  return Object.hasOwn(PUBLISHED_PIPELINES, name);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
