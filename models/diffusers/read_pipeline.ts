import { statSync } from "node:fs";
import { join, resolve } from "node:path";
import { type ClipTextConfig, parseClipTextConfig } from "../clip/mod.ts";
import { readJsonObject } from "../config.ts";
import { openWeights, type OpenWeightsOptions, type WeightSource } from "../weights/mod.ts";
import { checkFit } from "./_check_fit.ts";
import type { Part, Pipeline } from "./pipeline.ts";
import { parseIndex } from "./pipeline_index.ts";
import { readSingleFile } from "./single_file/mod.ts";
import { parseUNetConfig } from "./unet_config.ts";
import { parseVaeConfig } from "./vae_config.ts";

/** Where PyTorch files and weights in float8 are converted, as rewards do. */
export const WEIGHTS_CACHE = ".cache/weights";

/** Options of `readPipeline`. */
export interface ReadPipelineOptions {
  /** diffusers' ("fp16" in `model.fp16.safetensors`). */
  readonly variant?: string;
  /** Folder in which PyTorch files and weights in float8 are kept converted. Default ".cache/weights". */
  readonly cacheDir?: string;
}

/**
 * Reads a diffusers folder: `model_index.json`, each part's `config.json` and the headers of its weights, single or
 * sharded safetensors or `.bin` files of any float dtype; or a single-file checkpoint (see `readSingleFile`). PyTorch files
 * are read without executing anything in them, and kept as safetensors in `cacheDir`.
 *
 * Throws `ConfigError` naming file, field, what was found and what was expected where a file asks for what is not
 * done here or parts do not fit one another, and `WeightsError` for weight files.
 */
export async function readPipeline(
  path: string,
  { variant, cacheDir = WEIGHTS_CACHE }: ReadPipelineOptions = {},
): Promise<Pipeline> {
  const root = resolve(path);
  if (statSync(root, { throwIfNoEntry: false })?.isFile()) {
    return await readSingleFile(root, { cacheDir: resolve(cacheDir) });
  }
  const indexPath = join(root, "model_index.json");
  const { kind, className, scheduler, forceZerosForEmptyPrompt } = parseIndex(
    await readJsonObject(indexPath),
    indexPath,
  );
  const second = kind === "sdxl" ? ["_2"] : [];
  const options = { cacheDir: resolve(cacheDir), ...(variant !== undefined && { variant }) };
  const read = <C>(name: string, parse: (value: Record<string, unknown>, path: string) => C) =>
    readPart(join(root, name), { parse, options });

  const unet = await read("unet", parseUNetConfig);
  const vae = await read("vae", parseVaeConfig);
  const textEncoders: Part<ClipTextConfig>[] = [];
  for (const suffix of ["", ...second]) {
    textEncoders.push(await read(`text_encoder${suffix}`, parseClipTextConfig));
  }
  checkFit(join(root, "unet", "config.json"), {
    kind,
    unet: unet.config,
    vae: vae.config,
    texts: textEncoders,
  });
  const schedulerPath = join(root, "scheduler", "scheduler_config.json");
  return {
    folder: root,
    kind,
    unet,
    vae,
    textEncoders,
    tokenizers: ["", ...second].map((suffix) => join(root, `tokenizer${suffix}`)),
    scheduler: {
      path: schedulerPath,
      className: scheduler,
      pipelineClass: className,
      config: await readJsonObject(schedulerPath),
    },
    forceZerosForEmptyPrompt,
  };
}

/** A part of a pipeline in a folder of its own, whose `config.json` `parse` reads. */
export async function readPart<C>(
  folder: string,
  { parse, options }: {
    parse: (value: Record<string, unknown>, path: string) => C;
    options: OpenWeightsOptions;
  },
): Promise<Part<C>> {
  const path = join(folder, "config.json");
  const config = parse(await readJsonObject(path), path);
  return { config, weights: withoutWrapper(await openWeights(folder, options)) };
}

/** What DistributedDataParallel and torch.compile put before all names of the module that they wrap. */
const WRAPPERS = ["module.", "_orig_mod."];

function withoutWrapper(weights: WeightSource): WeightSource {
  const names = weights.names();
  const wrapper = WRAPPERS.find((start) => names.every((name) => name.startsWith(start)));
  return wrapper === undefined ? weights : withoutWrapper(weights.under(wrapper));
}
