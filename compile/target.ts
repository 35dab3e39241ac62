/** Where ONNX Runtime computes. "cuda" is a GPU of NVIDIA's, "webgpu" any that the system has a driver for. */
export const PROVIDERS = ["cpu", "webgpu", "cuda"] as const;
export type Provider = typeof PROVIDERS[number];

/** What networks are computed in: "float16" means products and what passes between them. */
export const PRECISIONS = ["float32", "float16"] as const;
export type Precision = typeof PRECISIONS[number];

/** What a graph is compiled for. */
export interface Target {
  readonly provider: Provider;
  /** Bytes that the process, or the GPU, may take. Infinity where nothing bounds it. */
  readonly memory: number;
  /** Inputs and outputs of a graph stay float32. */
  readonly precision: Precision;
  /** Threads of one operator, for provider "cpu". Default: all cores. */
  readonly threads?: number | undefined;
}

/** A processor of unknown memory, in float32. */
export const CPU_TARGET: Target = { provider: "cpu", memory: Infinity, precision: "float32" };
