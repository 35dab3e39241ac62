import type { ValueType } from "../autodiff/mod.ts";
import type { GraphCost } from "./cost.ts";
import type { Policy } from "./policy.ts";
import type { Provider, Target } from "./target.ts";

/** How ONNX Runtime is to load a graph; a part of the runtime's own options. */
export interface CompiledOptions {
  readonly provider: Provider;
  readonly intraOpNumThreads?: number;
  readonly graphOptimizationLevel?: "disabled" | "basic" | "extended" | "all";
  readonly foldConstants?: boolean;
}

/** A graph for a runtime. */
export interface Compiled {
  /** The ONNX model, written when first asked for. */
  readonly bytes: Uint8Array;
  /** What running it takes, counted when first asked for. */
  readonly cost: GraphCost;
  readonly sessionOptions: CompiledOptions;
  /** Every input by name, in the order of the graph. */
  readonly inputs: Readonly<Record<string, ValueType>>;
  readonly outputs: Readonly<Record<string, ValueType>>;
}

/** What is compiled for, and what is known of the graph. */
export interface CompileOptions extends Target {
  /**
   * Whether to compute what depends on weights alone once, when the graph is loaded, and keep it: casts, kernels turned
   * round for a convolution's gradient. Else it is computed in every run and takes memory only then. Default true.
   */
  readonly fold?: boolean;
  /**
   * Whether convolutions may get copies of their weights in a layout of their kernels' own when the graph is loaded. What is
   * not folded never does. Default true.
   */
  readonly blocked?: boolean;
  /**
   * Who optimizes it: "compiler" for graphs that are written as they run best, "runtime" for graphs of others, which
   * ONNX Runtime fuses as it sees fit. Default "compiler".
   */
  readonly optimizer?: "compiler" | "runtime";
  /** Weights, by their names, that the runtime leaves where they are; see `SerializeOptions`. */
  readonly inPlace?: ReadonlySet<string>;
  /** Choices that are made otherwise than the target asks for, as measurements and tests do. */
  readonly policy?: Partial<Policy> | undefined;
}
