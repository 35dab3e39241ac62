import { statSync } from "node:fs";
import { join, resolve } from "node:path";
import { readJsonObject } from "../config.ts";
import { type Pipeline, readPipeline } from "../diffusers/mod.ts";
import { type FlowPipeline, isFlowClass, readFlowPipeline } from "./read_flow_pipeline.ts";

/** A text-to-image pipeline on disk: of a U-Net, or of a flow's transformer. */
export type TextToImage = Pipeline | FlowPipeline;

/** Whether a pipeline is of a flow. */
export function isFlow(pipeline: TextToImage): pipeline is FlowPipeline {
  return "transformer" in pipeline;
}

/** Reads a diffusers folder, or a single-file checkpoint, of any pipeline there is a builder for. Throws as `readPipeline` does. */
export async function readTextToImage(
  folder: string,
  options: { readonly variant?: string } = {},
): Promise<TextToImage> {
  // A file is a single-file checkpoint, of a U-Net always.
  if (statSync(folder, { throwIfNoEntry: false })?.isFile()) {
    return await readPipeline(folder, options);
  }
  const index = await readJsonObject(join(resolve(folder), "model_index.json"));
  return isFlowClass(index._class_name)
    ? await readFlowPipeline(folder, options)
    : await readPipeline(folder, options);
}
