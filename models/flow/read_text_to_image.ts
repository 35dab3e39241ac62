import { statSync } from "node:fs";
import { join, resolve } from "node:path";
import { readJsonObject } from "../config.ts";
import { loraParts, type Pipeline, readPipeline, textModules } from "../diffusers/mod.ts";
import type { LoraPart } from "../lora/mod.ts";
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

const TEXT_ENCODERS = ["text_encoder", "text_encoder_2", "text_encoder_3"] as const;

/** The networks of a pipeline that a LoRA file can change: of a flow's, the transformer and the CLIP text encoders. */
export function loraPartsOf(pipeline: TextToImage): readonly LoraPart[] {
  if (!isFlow(pipeline)) return loraParts(pipeline);
  return [
    { name: "transformer", layers: pipeline.transformer.layers },
    ...pipeline.encoders.flatMap(({ kind, part }, i): LoraPart[] => {
      const name = TEXT_ENCODERS[i];
      return kind !== "clip" || name === undefined ? [] : [{ name, layers: textModules(part) }];
    }),
  ];
}
