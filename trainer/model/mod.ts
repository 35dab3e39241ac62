export { ENGINE_BYTES, footprint, pieceLengths, piecesFootprint } from "./memory.ts";
export * from "./model.ts";
export { NetworkRunner, type NetworkRunnerOptions } from "./network_runner.ts";
export * from "./pipeline_model.ts";
export {
  decoderProgram,
  type Program,
  type ProgramTarget,
  unetProgram,
  type UNetTask,
} from "./program.ts";
