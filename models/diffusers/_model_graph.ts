import { type Builder, type Value, type ValueType } from "../../autodiff/mod.ts";
import { type GraphCost, graphCost, serialize } from "../../compile/mod.ts";
import type { Part } from "./read_pipeline.ts";

/** A model ready for an engine: `engine.load(graph)`. */
export interface ModelGraph {
  readonly name: string;
  /** Serialized when first asked for. */
  readonly bytes: Uint8Array;
  /** Folder of the weight files the graph points into. */
  readonly weightsRoot: string;
  /** Every input by name, in the order of the graph. */
  readonly inputs: Readonly<Record<string, ValueType>>;
  readonly outputs: Readonly<Record<string, ValueType>>;
  /**
   * Whether to compute what depends on weights alone once, when the graph is loaded, and keep it: casts, kernels turned
   * round for a convolution's gradient. Else it is computed in every run and takes memory only then.
   */
  readonly fold: boolean;
  /** Counted when first asked for. */
  readonly cost: GraphCost;
}

/** Bytes of weights above which a second copy of them is not worth the time it saves. */
const MANY_WEIGHTS = 2 ** 30;

/** The part of a graph that `outputs` need, as a model over the weights of `part`. */
export function modelGraph(
  { weights }: Part<unknown>,
  b: Builder,
  { name, outputs, fold = weights.byteLength <= MANY_WEIGHTS }: {
    readonly name: string;
    readonly outputs: Readonly<Record<string, Value>>;
    /** See `ModelGraph`. Default: where the network's weights are not many. */
    readonly fold?: boolean;
  },
): ModelGraph {
  const typeOf = ({ dtype, shape }: Value): ValueType => ({ dtype, shape });
  const costOf = (hideSizes: boolean) => ({
    hideSizes,
    cost: graphCost(b, Object.values(outputs), { fold, hideSizes }),
  });
  const choose = () => {
    const told = costOf(false);
    // What is folded needs its sizes. Where they are hidden, nothing is written over what it is made from.
    if (fold || !b.mayHideSizes) return told;
    const hidden = costOf(true);
    return hidden.cost.activationBytes < told.cost.activationBytes ? hidden : told;
  };
  let known: ReturnType<typeof costOf> | undefined;
  /** How it is written, so that it takes the least. */
  const written = () => known ??= choose();
  let bytes: Uint8Array | undefined;
  return {
    name,
    weightsRoot: weights.root,
    fold,
    inputs: Object.fromEntries(b.inputs.map((v) => [v.name, typeOf(v)])),
    outputs: Object.fromEntries(Object.entries(outputs).map(([n, v]) => [n, typeOf(v)])),
    get bytes() {
      return bytes ??= serialize(b, outputs, { hideSizes: written().hideSizes });
    },
    get cost() {
      return written().cost;
    },
  };
}
