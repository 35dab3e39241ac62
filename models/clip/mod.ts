export {
  type ClipActivation,
  clipBlocks,
  type ClipBlocksConfig,
  type ClipBlocksOptions,
} from "./blocks.ts";
export { type ClipConfig, parseClipConfig } from "./clip_config.ts";
export {
  clipImageEmbedding,
  type ClipModel,
  clipTextEmbedding,
  openClip,
  type OpenClipOptions,
} from "./clip_model.ts";
export { inferOpenClipConfig, parseOpenClipConfig } from "./open_clip_config.ts";
export { openClipWeights } from "./open_clip_weights.ts";
export { clipText, clipTextProjection, clipTextScope, type ClipTextStates } from "./text.ts";
export { type ClipTextConfig, INERT, INHERITED, parseClipTextConfig } from "./text_config.ts";
export { clipVision, clipVisionPooled } from "./vision.ts";
export { type ClipVisionConfig, parseClipVisionConfig } from "./vision_config.ts";
