import { realpath } from "node:fs/promises";
import { isAbsolute, join, relative, resolve } from "node:path";
import { type Pipeline, readPipeline, unetAdaptableLayers } from "../../models/diffusers/mod.ts";
import { loraShapes } from "../../models/lora/mod.ts";
import { openEngine, type SessionOptions } from "../../runtime/mod.ts";
import { FieldError } from "../errors.ts";
import { type LatentSize, type MemoryLimits, PipelineModel } from "../model/mod.ts";
import { makeSampler, parseSchedulerConfig } from "../samplers/mod.ts";
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

/**
 * Checks a configuration against its model's files, reading no weights, and fills in the latents' size. Throws
 * `FieldError`, or the readers' errors naming the file at fault.
 */
export async function prepareRunConfig(
  config: RunConfig,
  { root }: Pick<OpenModelOptions, "root">,
): Promise<RunConfig> {
  const pipeline = await readPipeline(await insideRoot(root, config.model, "model"));
  makeSampler(config.sampler, parseSchedulerConfig(pipeline.scheduler));
  try {
    loraShapes(unetAdaptableLayers(pipeline.unet.config), config.lora);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new FieldError("lora.targets", `is not for this model: ${error.message}`);
  }
  const { height, width } = latentSize(config, pipeline);
  return { ...config, latentHeight: height, latentWidth: width };
}

/** Opens a run's model in a process of its own, which ends with `release`. */
export async function openRunModel(
  config: RunConfig,
  { root, session = {}, limits = {} }: OpenModelOptions,
): Promise<OpenedModel> {
  const pipeline = await readPipeline(await insideRoot(root, config.model, "model"));
  const scheduler = parseSchedulerConfig(pipeline.scheduler);
  const latents = { channels: pipeline.unet.config.inChannels, ...latentSize(config, pipeline) };
  const engine = await openEngine({ isolation: "child", name: config.model });
  try {
    const model = new PipelineModel(pipeline, engine, { lora: config.lora, session, limits });
    return { model, scheduler, latents, release: () => engine.close() };
  } catch (error) {
    await engine.close();
    throw error;
  }
}

function latentSize(config: RunConfig, { unet }: Pipeline): LatentSize {
  const { sampleSize } = unet.config;
  const height = config.latentHeight ?? sampleSize?.[0];
  const width = config.latentWidth ?? sampleSize?.[1];
  if (height !== undefined && width !== undefined) return { height, width };
  throw new FieldError("latentHeight", "is missing, and the U-Net names no sample_size");
}
