import { isFlow, type TextToImage } from "../../models/flow/mod.ts";
import type { Engine } from "../../runtime/mod.ts";
import { FlowModel, type FlowModelOptions } from "./flow_model.ts";
import type { Model } from "./model.ts";
import { PipelineModel } from "./pipeline_model.ts";

/** A pipeline in an engine, whatever it is of. Throws as `PipelineModel` and `FlowModel` do. */
export function openPipeline(
  pipeline: TextToImage,
  engine: Engine,
  options: FlowModelOptions,
): Model {
  return isFlow(pipeline)
    ? new FlowModel(pipeline, engine, options)
    : new PipelineModel(pipeline, engine, options);
}
