export {
  decodeGraph,
  decodeVjpGraph,
  imageSize,
  type LatentsSize,
  seed,
  textGraphs,
  unetGraph,
  type UNetSize,
  unetVjpGraph,
} from "./graphs.ts";
export { gradientOutputs } from "./_gradient_outputs.ts";
export { type GraphOptions, type ModelGraph, modelGraph } from "./_model_graph.ts";
export {
  decoderPieces,
  inPieces,
  type PieceContext,
  type PieceGradient,
  type PieceGraphs,
  type PieceOptions,
  type Pieces,
  unetPieces,
} from "./pieces.ts";
export type { Part, Pipeline, SchedulerFile } from "./pipeline.ts";
export { PIPELINE_CLASSES, REFUSED_PIPELINES } from "./pipeline_index.ts";
export { guidanceEmbedding } from "./guidance_embedding.ts";
export {
  readPart,
  readPipeline,
  type ReadPipelineOptions,
  WEIGHTS_CACHE,
} from "./read_pipeline.ts";
export { unet, type UNetContext, type UNetInputs, unetSegments } from "./unet.ts";
export {
  parseUNetConfig,
  type TextTimeConfig,
  TIME_IDS,
  type UNetConfig,
  type UNetLevel,
} from "./unet_config.ts";
export {
  loraParts,
  type ModuleSource,
  networkModules,
  textModules,
  unetModules,
} from "./unet_modules.ts";
export { encodeGraph, hasEncoder, vaeEncode } from "./vae_encoder.ts";
export { type VaeContext, vaeDecode, vaeSegments } from "./vae.ts";
export {
  givenChannels,
  parseFlux2VaeConfig,
  parseVaeConfig,
  type VaeConfig,
  vaeFactor,
} from "./vae_config.ts";
