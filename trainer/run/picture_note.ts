import { basename, extname } from "node:path";
import { drawnPrompt } from "../prompt_columns.ts";
import type { SamplerOptions } from "../samplers/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import type { RunConfig } from "./run_config.ts";

/** How a picture was drawn. */
export interface PictureFacts {
  readonly prompt: string;
  readonly seed: number;
  readonly sampler: SamplerOptions;
  readonly guidance: number;
  /** Pixels. */
  readonly height: number;
  readonly width: number;
  /** Path of the model's folder or file. */
  readonly model: string;
  readonly lora?: { readonly name: string; readonly scale: number } | undefined;
}

/** How a run's picture was drawn, by its configuration; `images` are [B, 3, H, W]. */
export function runPictureNote(
  config: Pick<RunConfig, "sampler" | "guidance" | "model">,
  { request, images, lora }: {
    readonly request: { readonly prompt: string; readonly seed: number };
    readonly images: Float32Tensor;
    readonly lora?: PictureFacts["lora"];
  },
): string {
  const [, , height = 0, width = 0] = images.shape;
  const { sampler, guidance, model } = config;
  return pictureNote({ ...request, sampler, guidance: guidance.scale, height, width, model, lora });
}

/** Samplers as web UIs call them. */
const NAMES: Readonly<Record<SamplerOptions["kind"], string>> = {
  ddpm: "DDPM",
  ddim: "DDIM",
  "dpmsolver++": "DPM++ 2M",
  lcm: "LCM",
  "flow-euler": "Euler",
};

/**
 * How a picture was drawn, in the form that web UIs write into PNG files as "parameters" and read back: the prompt with
 * its LoRA, and a line of settings.
 */
export function pictureNote(
  { prompt, seed, sampler, guidance, height, width, model, lora }: PictureFacts,
): string {
  const settings = Object.entries({
    Steps: sampler.steps,
    Sampler: NAMES[sampler.kind],
    "Schedule type": sampler.karrasSigmas === true ? "Karras" : undefined,
    "CFG scale": guidance,
    Seed: seed,
    Size: `${width}x${height}`,
    Model: quoted(stem(model)),
    Eta: sampler.eta || undefined,
    Version: "DRTune",
  }).flatMap(([name, value]) => value === undefined ? [] : [`${name}: ${value}`]);
  const added = lora === undefined ? "" : ` <lora:${stem(lora.name)}:${lora.scale}>`;
  return `${drawnPrompt(prompt)}${added}\n${settings.join(", ")}`;
}

/** A value with commas, colons or line breaks is written as JSON, as web UIs do. */
function quoted(value: string): string {
  return /[,:\n]/.test(value) ? JSON.stringify(value) : value;
}

function stem(path: string): string {
  const name = basename(path);
  return [".safetensors", ".ckpt", ".bin", ".pt"].includes(extname(name))
    ? name.slice(0, -extname(name).length)
    : name;
}
