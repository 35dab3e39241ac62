import { join, resolve } from "node:path";
import { ConfigError, parseConfig, readJsonObject } from "../config.ts";
import {
  readPart,
  type ReadPipelineOptions,
  type SchedulerFile,
  WEIGHTS_CACHE,
} from "../diffusers/mod.ts";
import { CLASSES, FAMILIES, type FlowKind, type FlowParts, INDEXES } from "./_families.ts";

/** A text-to-image pipeline on disk whose transformer predicts a flow's velocity. */
export interface FlowPipeline extends FlowParts {
  /** Absolute. */
  readonly folder: string;
  readonly kind: FlowKind;
  readonly scheduler: SchedulerFile;
  /** Distilled to few steps without guidance, as FLUX.2's index says. */
  readonly isDistilled: boolean;
}

/** Whether a pipeline's class, of `model_index.json`, is one of a flow. */
export function isFlowClass(name: unknown): name is keyof typeof CLASSES {
  return typeof name === "string" && Object.hasOwn(CLASSES, name);
}

/**
 * Reads a diffusers folder of a flow pipeline: `model_index.json`, each part's `config.json` and the headers of its
 * weights, single or sharded safetensors or `.bin` files of any float dtype. Throws as `readPipeline` does.
 */
export async function readFlowPipeline(
  folder: string,
  { variant, cacheDir = WEIGHTS_CACHE }: ReadPipelineOptions = {},
): Promise<FlowPipeline> {
  const root = resolve(folder);
  const path = join(root, "model_index.json");
  const file = await readJsonObject(path);
  const { _class_name: name } = file;
  if (!isFlowClass(name)) {
    throw new ConfigError(
      path,
      `"_class_name" is ${JSON.stringify(name) ?? "missing"}, expected ` +
        Object.keys(CLASSES).join(" or "),
    );
  }
  const kind = CLASSES[name];
  const index = parseConfig(INDEXES[kind], file, path);
  const options = { cacheDir: resolve(cacheDir), ...(variant !== undefined && { variant }) };
  const parts = await FAMILIES[kind]({
    root,
    index: { ...index },
    read: (part, parse) => readPart(join(root, part), { parse, options }),
  });
  const scheduler = join(root, "scheduler", "scheduler_config.json");
  return {
    ...parts,
    folder: root,
    kind,
    isDistilled: file.is_distilled === true,
    scheduler: {
      path: scheduler,
      className: index.scheduler[1],
      config: await readJsonObject(scheduler),
    },
  };
}
