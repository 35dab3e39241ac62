export {
  transformerGraph,
  type TransformerGraphOptions,
  transformerPieces,
  transformerVjpGraph,
} from "./graphs.ts";
export {
  type FlowKind,
  type FlowPipeline,
  isFlowClass,
  readFlowPipeline,
} from "./read_flow_pipeline.ts";
export { isFlow, readTextToImage, type TextToImage } from "./read_text_to_image.ts";
export { JOINT_ATTENTION_TARGETS, sd3Transformer } from "./sd3.ts";
export { parseSD3Config, type SD3Config } from "./sd3_config.ts";
export {
  clipGraph,
  encoderGraph,
  encoderPieces,
  type TextEncoder,
  type TextGraphOptions,
} from "./text_graphs.ts";
export { TIMESTEP_WIDTH, timestepProjection } from "./timestep.ts";
export type {
  FlowTransformer,
  TransformerContext,
  TransformerSegment,
  TransformerSize,
} from "./transformer.ts";
