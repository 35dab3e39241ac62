export { encoderLayers } from "./encoder_layers.ts";
export { FlowModel, type FlowModelOptions } from "./flow_model.ts";
export type { FlowTextOptions } from "./flow_prompts.ts";
export { ENGINE_BYTES, footprint, pieceLengths, piecesFootprint } from "./memory.ts";
export * from "./model.ts";
export { NetworkRunner, type NetworkRunnerOptions } from "./network_runner.ts";
export { openPipeline } from "./open_pipeline.ts";
export * from "./pipeline_model.ts";
export { LCM_GUIDANCE } from "./prompt_encoder.ts";
export {
  decoderNetwork,
  encoderNetwork,
  type NetworkTarget,
  type RunnableNetwork,
  transformerNetwork,
  unetNetwork,
  type UNetTask,
} from "./runnable_network.ts";
