export { ENGINE_ENV } from "./engine_env.ts";
export { assertFinite } from "./assert_finite.ts";
export { readStdin, writeStdout } from "./_blocking_stdio.ts";
export { availableProviders, type ProviderStatus } from "./available_providers.ts";
export {
  bindingFolder,
  CUDA_FOLDER,
  CUDA_LIBRARIES,
  CUDA_PROVIDER,
  RUNTIME_VERSION,
} from "./cuda_libraries.ts";
export { type CudaFault, explainCuda } from "./explain_cuda.ts";
export type { ChildEngineOptions } from "./child_engine.ts";
export { encodeFrame, type Frame, readFrame } from "./_frames.ts";
export { type EngineOptions, type Isolation, openEngine } from "./engine.ts";
export {
  EngineCrashedError,
  NumericalError,
  RUNTIME_ERROR_CODES,
  RuntimeError,
  type RuntimeErrorCode,
} from "./errors.ts";
export { FrameProcess, type FrameProcessOptions, type ProcessEnd } from "./frame_process.ts";
export { cpuSeconds } from "./cpu_seconds.ts";
export { giveWay } from "./give_way.ts";
export { GpuMemory, type GpuMemoryOptions } from "./gpu_memory.ts";
export { peakMemory } from "./peak_memory.ts";
export { watchRuns } from "./watch_runs.ts";
export * from "./session.ts";
export { type CachedModel, SessionCache, type SessionCacheOptions } from "./session_cache.ts";
