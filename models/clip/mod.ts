export {
  type ClipActivation,
  clipBlocks,
  type ClipBlocksConfig,
  type ClipBlocksOptions,
} from "./blocks.ts";
export { withoutBookkeeping } from "./bookkeeping.ts";
export { type ClipConfig, type ClipImageConfig, parseClipConfig } from "./clip_config.ts";
export {
  clipImageEmbedding,
  type ClipImageModel,
  type ClipModel,
  clipTextEmbedding,
  openClip,
  openClipImage,
  type OpenClipOptions,
} from "./clip_model.ts";
export { inferOpenClipConfig, parseOpenClipConfig } from "./open_clip_config.ts";
export { openClipWeights } from "./open_clip_weights.ts";
export {
  CLIP_MEAN,
  CLIP_STD,
  clipPreprocessing,
  type ImagePreprocessing,
  parsePreprocessing,
  readPreprocessing,
  RESAMPLINGS,
} from "./preprocessing.ts";
export { clipText, clipTextProjection, clipTextScope, type ClipTextStates } from "./text.ts";
export { type ClipTextConfig, INERT, INHERITED, parseClipTextConfig } from "./text_config.ts";
export { clipVision, clipVisionPooled } from "./vision.ts";
export { type ClipVisionConfig, parseClipVisionConfig } from "./vision_config.ts";
