import { realpath } from "node:fs/promises";
import { isAbsolute, join, relative, resolve } from "node:path";
import { readPipeline } from "../../models/diffusers/mod.ts";
import { openEngine, type SessionOptions } from "../../runtime/mod.ts";
import { FieldError } from "../errors.ts";
import { type MemoryLimits, PipelineModel } from "../model/mod.ts";
import { parseSchedulerConfig } from "../samplers/mod.ts";
import type { RunConfig } from "./run_config.ts";
import type { OpenedModel } from "./training_run.ts";

/** Where models lie and how they run. */
export interface OpenModelOptions {
  /** Folder that `RunConfig.model` is relative to and may not leave. */
  readonly root: string;
  readonly session?: SessionOptions;
  readonly limits?: MemoryLimits;
}

/** A file or folder below `root`, links resolved. Throws `FieldError` where there is none, or it lies outside. */
export async function insideRoot(root: string, path: string, field: string): Promise<string> {
  const outside = () =>
    new FieldError(field, `is ${JSON.stringify(path)}, expected a path inside the model root`);
  if (isAbsolute(path)) throw outside();
  const base = await realpath(root);
  const leaves = (p: string) => {
    const way = relative(base, p);
    return way.startsWith("..") || isAbsolute(way);
  };
  const wanted = resolve(join(base, path));
  if (leaves(wanted)) throw outside();
  let found: string;
  try {
    found = await realpath(wanted);
  } catch {
    throw new FieldError(field, `is ${JSON.stringify(path)}, which the model root does not have`);
  }
  if (leaves(found)) throw outside();
  return found;
}

/** Opens a run's model in a process of its own, which ends with `release`. */
export async function openRunModel(
  config: RunConfig,
  { root, session = {}, limits = {} }: OpenModelOptions,
): Promise<OpenedModel> {
  const pipeline = await readPipeline(await insideRoot(root, config.model, "model"));
  const scheduler = parseSchedulerConfig(pipeline.scheduler);
  const { rank, alpha = rank, targets } = config.lora;
  const { sampleSize, inChannels } = pipeline.unet.config;
  const [height, width] = [
    config.latentHeight ?? sampleSize?.[0],
    config.latentWidth ?? sampleSize?.[1],
  ];
  if (height === undefined || width === undefined) {
    throw new FieldError("latentHeight", "is missing, and the U-Net names no sample_size");
  }
  const engine = await openEngine({ isolation: "child", name: config.model });
  try {
    const model = new PipelineModel(pipeline, engine, {
      lora: { rank, alpha, ...(targets && { targets }) },
      session,
      limits,
    });
    return {
      model,
      scheduler,
      latents: {
        channels: inChannels,
        height,
        width,
      },
      release: () => engine.close(),
    };
  } catch (error) {
    await engine.close();
    throw error;
  }
}
