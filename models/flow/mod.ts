export {
  transformerGraph,
  type TransformerGraphOptions,
  transformerPieces,
  transformerVjpGraph,
} from "./graphs.ts";
export { flux2Inputs, flux2Segments, flux2Transformer } from "./flux2.ts";
export { type Flux2Config, parseFlux2Config } from "./flux2_config.ts";
export { fluxInputs, fluxSegments, fluxTransformer } from "./flux.ts";
export { type FluxConfig, parseFluxConfig } from "./flux_config.ts";
export type { FlowKind } from "./_families.ts";
export { type FlowPipeline, isFlowClass, readFlowPipeline } from "./read_flow_pipeline.ts";
export { isFlow, loraPartsOf, readTextToImage, type TextToImage } from "./read_text_to_image.ts";
export { JOINT_ATTENTION_TARGETS, sd3Inputs, sd3Segments, sd3Transformer } from "./sd3.ts";
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
export { zImageInputs, zImageSegments, zImageTransformer } from "./z_image.ts";
export { parseZImageConfig, type ZImageConfig } from "./z_image_config.ts";
