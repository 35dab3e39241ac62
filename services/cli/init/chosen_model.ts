import { stat } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { isFlow, readTextToImage } from "../../../models/flow/mod.ts";
import { UsageError } from "../command.ts";
import { KNOWN_MODELS } from "../fetch/known_models.ts";
import { publishedName } from "../plan/model_place.ts";
import { type RunDefaults, runDefaults } from "./run_defaults.ts";

/** The model of a new project. */
export interface ChosenModel {
  /** Folder of all models, absolute or relative to the project. */
  readonly root: string;
  /** The run's `model`, a path in that folder. */
  readonly model: string;
  /** What `drtune fetch` is to bring; undefined where it is there. */
  readonly fetch?: string;
  readonly defaults: RunDefaults;
  /** Whether it may be computed in float16: not where its U-Net wants attention in more. */
  readonly allowsHalf: boolean;
}

/** The folder of a new project that `drtune fetch` brings models to. */
const MODELS = "models";

/**
 * What a person named: a folder or file of their own, a name that `drtune fetch` knows, or OWNER/NAME of a hub. Throws
 * `UsageError` for what is none of these, and the readers' errors where a folder cannot be read.
 */
export async function chosenModel(named: string): Promise<ChosenModel> {
  const path = resolve(named);
  const published = publishedName(named);
  const defaults = runDefaults(published);
  if (await stat(path).then(() => true, () => false)) {
    const pipeline = await readTextToImage(path);
    const allowsHalf = isFlow(pipeline) || !pipeline.unet.config.upcastAttention;
    return { root: dirname(path), model: basename(path), defaults, allowsHalf };
  }
  if (published === named) {
    const allowsHalf = published !== "sd21";
    return { root: MODELS, model: named, fetch: named, defaults, allowsHalf };
  }
  if (/^[\w.-]+\/[\w.-]+$/.test(named)) {
    const model = named.replace("/", "--");
    return { root: MODELS, model, fetch: named, defaults, allowsHalf: published !== "sd21" };
  }
  const known = Object.keys(KNOWN_MODELS).filter((name) => publishedName(name) !== undefined);
  throw new UsageError(
    `Model is ${
      JSON.stringify(named)
    }, which is no folder or file here, expected one, or OWNER/NAME, or ${known.join(", ")}`,
  );
}
