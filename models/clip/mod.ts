export { type ClipActivation, clipBlocks, type ClipBlocksConfig } from "./blocks.ts";
export { clipText, clipTextProjection, clipTextScope, type ClipTextStates } from "./text.ts";
export { type ClipTextConfig, parseClipTextConfig } from "./text_config.ts";
