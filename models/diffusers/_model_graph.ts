import type { Builder, Value } from "../../autodiff/mod.ts";
import {
  compile,
  type Compiled,
  type CompileOptions,
  CPU_TARGET,
  type Target,
} from "../../compile/mod.ts";
import type { Part } from "./pipeline.ts";

/** What a graph is written for. */
export interface GraphOptions extends Pick<CompileOptions, "policy"> {
  /** Default: a processor of unknown memory, in float32. */
  readonly target?: Target | undefined;
}

/** A model ready for an engine: `engine.load(graph, graph.sessionOptions)`. */
export interface ModelGraph extends Compiled {
  readonly name: string;
  /** Folder of the weight files the graph points into. */
  readonly weightsRoot: string;
  /**
   * Where the graph is a vector-Jacobian product: the output that is the gradient of each input and LoRA tensor it is
   * wanted for. It reads d loss / d result as "cotangent", unless it says otherwise.
   */
  readonly gradients?: ReadonlyMap<string, string> | undefined;
}

/** Bytes of weights above which a second copy of them is not worth the time it saves. */
const MANY_WEIGHTS = 2 ** 30;

/** Bytes of weights above which convolutions get no layout of their own: copying takes as long as dozens of runs gain. */
const BLOCKED_WEIGHTS = 64 * 2 ** 20;

/** The part of a graph that `outputs` need, as a model over the weights of `part`. */
export function modelGraph(
  { weights }: Part<unknown>,
  b: Builder,
  {
    name,
    outputs,
    gradients,
    fold = weights.byteLength <= MANY_WEIGHTS,
    target = CPU_TARGET,
    policy,
  }:
    & GraphOptions
    & Pick<CompileOptions, "fold">
    & Pick<ModelGraph, "name" | "gradients">
    & { readonly outputs: Readonly<Record<string, Value>> },
): ModelGraph {
  const compiled = compile(b, outputs, {
    ...target,
    fold,
    blocked: weights.byteLength <= BLOCKED_WEIGHTS,
    policy,
  });
  return {
    name,
    weightsRoot: weights.root,
    gradients,
    inputs: compiled.inputs,
    outputs: compiled.outputs,
    sessionOptions: compiled.sessionOptions,
    get bytes() {
      return compiled.bytes;
    },
    get cost() {
      return compiled.cost;
    },
  };
}
