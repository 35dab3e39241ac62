import type { Builder, Value } from "../../autodiff/mod.ts";
import type { Precision } from "../../compile/mod.ts";
import { type AdaptableLayer, type LoraConfig, loraShapes } from "./adapter.ts";

/** An adapter of one linear layer in a graph. */
export interface LoraPair {
  /** [rank, in]. */
  readonly a: Value;
  /** [out, rank]. */
  readonly b: Value;
  /** alpha / rank, the factor of the product. */
  readonly scale: number;
}

/**
 * Adapters as inputs of a graph under PEFT's names. An input is declared when its layer is built, so that a graph of
 * a part of a model has the inputs of that part alone.
 */
export class LoraInputs {
  readonly #b: Builder;
  readonly #scale: number;
  readonly #shapes: ReadonlyMap<string, readonly [number, number]>;
  readonly #declared = new Map<string, Value>();
  /** Whether a weight may be read with its adapter added. In float16, an adapter that is small beside it would be lost. */
  readonly mayMerge: boolean;

  /** `precision` is what the graph will be computed in, default "float32". Throws as `loraShapes` does. */
  constructor(
    b: Builder,
    layers: readonly AdaptableLayer[],
    { precision = "float32", ...config }: LoraConfig & {
      readonly precision?: Precision | undefined;
    },
  ) {
    this.#b = b;
    this.mayMerge = precision === "float32";
    this.#scale = config.alpha / config.rank;
    this.#shapes = new Map(loraShapes(layers, config).map(({ name, shape }) => [name, shape]));
  }

  /** The inputs declared so far, by name. */
  get declared(): ReadonlyMap<string, Value> {
    return this.#declared;
  }

  /** The adapter of a module, `undefined` where it has none. */
  pair(module: string): LoraPair | undefined {
    const a = this.#input(`${module}.lora_A.weight`);
    const b = this.#input(`${module}.lora_B.weight`);
    return a === undefined || b === undefined ? undefined : { a, b, scale: this.#scale };
  }

  #input(name: string): Value | undefined {
    const known = this.#declared.get(name);
    if (known !== undefined) return known;
    const shape = this.#shapes.get(name);
    if (shape === undefined) return undefined;
    const value = this.#b.input(name, { dtype: "float32", shape });
    this.#declared.set(name, value);
    return value;
  }
}
