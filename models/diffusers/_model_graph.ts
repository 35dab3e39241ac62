import {
  type Builder,
  type GraphCost,
  graphCost,
  serialize,
  type Value,
  type ValueType,
} from "../../autodiff/mod.ts";
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
  /** Counted when first asked for. */
  readonly cost: GraphCost;
}

/** The part of a graph that `outputs` need, as a model over the weights of `part`. */
export function modelGraph(
  { weights }: Part<unknown>,
  b: Builder,
  { name, outputs }: { name: string; outputs: Readonly<Record<string, Value>> },
): ModelGraph {
  const typeOf = ({ dtype, shape }: Value): ValueType => ({ dtype, shape });
  let bytes: Uint8Array | undefined;
  let cost: GraphCost | undefined;
  return {
    name,
    weightsRoot: weights.root,
    inputs: Object.fromEntries(b.inputs.map((v) => [v.name, typeOf(v)])),
    outputs: Object.fromEntries(Object.entries(outputs).map(([n, v]) => [n, typeOf(v)])),
    get bytes() {
      return bytes ??= serialize(b, outputs);
    },
    get cost() {
      return cost ??= graphCost(b, Object.values(outputs));
    },
  };
}
