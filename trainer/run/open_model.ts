import { realpath } from "node:fs/promises";
import { totalmem } from "node:os";
import { isAbsolute, join, relative, resolve } from "node:path";
import { hasEncoder } from "../../models/diffusers/mod.ts";
import { isFlow, type TextToImage } from "../../models/flow/mod.ts";
import {
  loadLora,
  type Lora,
  loraModules,
  loraShapes,
  trainableLora,
} from "../../models/lora/mod.ts";
import {
  cpuSeconds,
  type Engine,
  GpuMemory,
  openEngine,
  peakMemory,
  type Provider,
  type SessionOptions,
  watchRuns,
} from "../../runtime/mod.ts";
import { FieldError, MissingFileError } from "../errors.ts";
import {
  checkPrecision,
  type LatentSize,
  type MemoryLimits,
  type Model,
  openPipeline,
} from "../model/mod.ts";
import { measureSpeed, planRun } from "../plan/mod.ts";
import { straightThrough } from "../batch/mod.ts";
import { selectSteps } from "../methods/mod.ts";
import { randomStream } from "../random.ts";
import { makeSampler } from "../samplers/mod.ts";
import { parseRunConfig, type RunConfig } from "./run_config.ts";
import type { Float32Tensor } from "../tensors.ts";
import type { OpenedModel, StartLora } from "./opened_model.ts";
import {
  type CaptionedFile,
  captionedFiles,
  digestOf,
  type Pretraining,
  readPretraining,
} from "./pretraining.ts";
import { readRunPipeline, type RunPipeline } from "./run_pipeline.ts";

/** Where models lie and how they run. */
export interface OpenModelOptions {
  /** Folder that `RunConfig.model` is relative to and may not leave. */
  readonly root: string;
  readonly session?: SessionOptions;
  readonly limits?: MemoryLimits;
  /** Hears the name of each graph before it runs. */
  readonly onRun?: ((graph: string) => void) | undefined;
}

/** Where embeddings of prompts are kept, beside converted weights. */
const EMBEDDINGS = ".cache/embeddings";

/** A file or folder below `root`, links resolved. Throws `MissingFileError` or, where it lies outside, `FieldError`. */
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
    throw new MissingFileError(
      field,
      `is ${JSON.stringify(path)}, which the model root does not have`,
    );
  }
  if (leaves(found)) throw outside();
  return found;
}

/**
 * Checks a configuration, also against its model's files, of which it reads no weights, and fills in its defaults: the
 * latents' size from the U-Net, the LoRA's from the one it starts from. Throws `FieldError`, or the readers' errors
 * naming the file at fault.
 */
export async function prepareRunConfig(
  value: unknown,
  { root, session = {} }: Pick<OpenModelOptions, "root" | "session">,
): Promise<RunConfig> {
  const given = parseRunConfig(value);
  const read = await readRunPipeline(await insideRoot(root, given.model, "model"));
  const { layers, defaults, pipeline } = read;
  const { init } = given.lora;
  const start = init === undefined ? undefined : (await readStart(root, { init, read })).lora;
  const config = parseRunConfig(value, { defaults, ...(start && { start }) });
  const { height, width } = latentSize(config, read);
  checkMethod(config, read.scheduler({ height, width }));
  try {
    loraShapes(layers, config.lora);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new FieldError("lora.targets", `is not for this model: ${error.message}`);
  }
  if (start !== undefined) checkStart(config.lora, { start, layers });
  if (!isFlow(pipeline)) checkPrecision(config.precision, pipeline.unet.config);
  const image = read.imageSize({ height, width });
  if (config.randomShift >= Math.min(image.height, image.width)) {
    throw new FieldError(
      "randomShift",
      `is ${config.randomShift}, expected less than the images' ${image.height}x${image.width}`,
    );
  }
  // Pieces round differently: another machine that resumes the run must cut as this one does.
  const memoryLimit = config.memoryLimit ?? await defaultMemoryLimit(session.provider);
  const { pretrain } = config;
  return {
    ...config,
    ...(pretrain && {
      pretrain: {
        ...pretrain,
        sha256: (await picturesOf(pretrain, { root, vae: pipeline.vae })).sha256,
      },
    }),
    latentHeight: height,
    latentWidth: width,
    memoryLimit,
  };
}

/**
 * The pictures of a folder and what they are frozen by. Throws `FieldError` where it is none, or they are others than the
 * run started with, or the model cannot read pictures.
 */
async function picturesOf(
  pretrain: NonNullable<RunConfig["pretrain"]>,
  { root, vae }: { readonly root: string; readonly vae: TextToImage["vae"] },
): Promise<{ readonly files: readonly CaptionedFile[]; readonly sha256: string }> {
  if (!hasEncoder(vae)) {
    throw new FieldError(
      "pretrain",
      "is not for this model: its VAE has no encoder that is known here",
    );
  }
  const files = await captionedFiles(await insideRoot(root, pretrain.folder, "pretrain.folder"));
  const found = await digestOf(files);
  if (found === (pretrain.sha256 ?? found)) return { files, sha256: found };
  throw new FieldError(
    "pretrain.sha256",
    `is ${pretrain.sha256}, but the pictures in ${pretrain.folder} have ${found}`,
  );
}

/** Throws `FieldError` where the sampler, or the method on it, is not defined. */
function checkMethod(config: RunConfig, scheduler: ReturnType<RunPipeline["scheduler"]>): void {
  const sampler = makeSampler(config.sampler, scheduler);
  const random = randomStream(config.seed, "selection");
  const { surrogate, trainSteps } = selectSteps(config.method, { T: config.sampler.steps, random });
  if (surrogate !== undefined) straightThrough(sampler, { surrogate, trainSteps });
}

/** GiB that networks may take where nothing else is said: half of the machine's memory, or 0.8 of the GPU's; at least 1. */
export async function defaultMemoryLimit(provider: Provider = "cpu"): Promise<number> {
  const gpu = provider === "cuda" ? await GpuMemory.open() : undefined;
  gpu?.close();
  const bytes = gpu ? 0.8 * gpu.total : totalmem() / 2;
  return Math.max(1, Math.floor(bytes / 2 ** 30));
}

async function readStart(
  root: string,
  { init, read: { parts, layers } }: { readonly init: string; readonly read: RunPipeline },
): Promise<StartLora> {
  const path = await insideRoot(root, init, "lora.init");
  try {
    const { adapters, ...file } = await loadLora(path, parts);
    return { ...file, lora: trainableLora(adapters, { layers, path: file.path }) };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FieldError("lora.init", `is not for this model: ${reason}`, { cause });
  }
}

/** A run goes on training exactly what the file holds. */
function checkStart(
  lora: RunConfig["lora"],
  { start, layers }: { readonly start: Lora; readonly layers: Parameters<typeof loraModules>[0] },
): void {
  for (const field of ["rank", "alpha"] as const) {
    if (lora[field] === start[field]) continue;
    throw new FieldError(
      `lora.${field}`,
      `is ${lora[field]}, expected ${start[field]}, as ${lora.init} has it`,
    );
  }
  const theirs = new Map(loraModules(layers, start).map((m) => [m.layer.name, m]));
  for (const { layer: { name }, ...own } of loraModules(layers, lora)) {
    for (const field of ["rank", "alpha"] as const) {
      const expected = theirs.get(name)?.[field] ?? own[field];
      if (own[field] === expected) continue;
      throw new FieldError(
        `lora.${field}Pattern`,
        `makes ${own[field]} of "${name}", expected ${expected}, as ${lora.init} has it`,
      );
    }
  }
  const wanted = loraShapes(layers, lora).map(({ name }) => name);
  const missing = wanted.find((name) => start.tensors[name] === undefined) ??
    Object.keys(start.tensors).find((name) => !wanted.includes(name));
  if (missing === undefined) return;
  throw new FieldError(
    "lora.targets",
    `is ${JSON.stringify(lora.targets)}, expected ${
      JSON.stringify(start.targets)
    }, as ${lora.init} has them (they differ in ${missing})`,
  );
}

/** Opens a run's model in a process of its own, which ends with `release`. */
export async function openRunModel(
  config: RunConfig,
  { root, session = {}, limits = {}, onRun = () => {} }: OpenModelOptions,
): Promise<OpenedModel> {
  const read = await readRunPipeline(await insideRoot(root, config.model, "model"));
  const { pipeline } = read;
  const size = latentSize(config, read);
  const scheduler = read.scheduler(size);
  const latents = { channels: read.channels, ...size };
  const engine = await openEngine({ isolation: "child", name: config.model });
  const gpu = session.provider === "cuda" ? await GpuMemory.open() : undefined;
  const encoders = new Set<Engine>();
  /** An engine that a flow's text encoders have to themselves: theirs may be larger than all else. */
  const openEncoders = async () => {
    const opened = watchRuns(
      await openEngine({ isolation: "child", name: `${config.model}'s text encoders` }),
      onRun,
    );
    encoders.add(opened);
    return opened;
  };
  const release = async () => {
    gpu?.close();
    await Promise.all([engine, ...encoders].map((open) => open.close()));
  };
  try {
    const model = openPipeline(pipeline, watchRuns(engine, onRun), {
      lora: config.lora,
      precision: config.precision,
      session,
      limits: { memory: bytesOf(config.memoryLimit), ...limits },
      encoders: { openEngine: openEncoders, cacheDir: resolve(EMBEDDINGS) },
    });
    const { pretrain, lora: { init } } = config;
    let pictures: Promise<Pretraining> | undefined;
    return {
      model,
      scheduler,
      latents,
      remarks: read.remarks(config.sampler.kind),
      ...(init !== undefined && { readStart: () => readStart(root, { init, read }) }),
      ...(pretrain && {
        pretraining: () =>
          pictures ??= openPretraining(pretrain, {
            ...{ root, vae: pipeline.vae, model },
            ...read.imageSize(size),
          }),
      }),
      plan: async () => {
        const speed = await measureSpeed(engine, { session });
        return planRun(config, { pipeline, speed, limits, provider: session.provider });
      },
      peakMemory: async () => gpu?.peak ?? await peakMemory(engine.pid),
      cpuSeconds: async () => cpuSeconds() + await engine.cpuSeconds(),
      release,
    };
  } catch (error) {
    await release();
    throw error;
  }
}

/** Reads and encodes a run's pictures. Throws `FieldError` where they are not those it started with. */
async function openPretraining(
  pretrain: NonNullable<RunConfig["pretrain"]>,
  { root, vae, model, height, width }: {
    readonly root: string;
    readonly vae: TextToImage["vae"];
    readonly model: Model;
    readonly height: number;
    readonly width: number;
  },
): Promise<Pretraining> {
  const { files } = await picturesOf(pretrain, { root, vae });
  const { scalingFactor: scale, shiftFactor: shift } = vae.config;
  const encode = (image: Float32Tensor) => model.encode(image);
  return await readPretraining(files, { height, width, scale, shift, encode });
}

function bytesOf(gib: number | undefined): number | undefined {
  return gib === undefined ? undefined : gib * 2 ** 30;
}

function latentSize(config: RunConfig, { sampleSize }: RunPipeline): LatentSize {
  const height = config.latentHeight ?? sampleSize?.height;
  const width = config.latentWidth ?? sampleSize?.width;
  if (height !== undefined && width !== undefined) return { height, width };
  throw new FieldError("latentHeight", "is missing, and the U-Net names no sample_size");
}
