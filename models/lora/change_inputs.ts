import type { Builder, Value } from "../../autodiff/mod.ts";
import type { Precision } from "../../compile/mod.ts";
import type { ThinPair, WeightChanges } from "../weight_scope.ts";
import { deltaOf, withMagnitude } from "./_delta.ts";
import { changeShapes, matrixOf, type ModuleChange } from "./weight_change.ts";

/**
 * Changes of weights whose values are inputs of a graph, under the names of `changeShapes`. An input is declared when
 * its layer is built, so that a graph of a part of a model has the inputs of that part alone.
 */
export class ChangeInputs implements WeightChanges {
  readonly #b: Builder;
  readonly #mayMerge: boolean;
  readonly #changes: ReadonlyMap<string, ModuleChange>;
  readonly #declared = new Map<string, Value>();
  readonly #used = new Set<string>();

  /** `precision` is what the graph will be computed in. */
  constructor(b: Builder, changes: readonly ModuleChange[], precision: Precision = "float32") {
    this.#b = b;
    this.#mayMerge = precision === "float32";
    this.#changes = new Map(changes.map((change) => [change.layer.name, change]));
  }

  /** The inputs declared so far, by name. */
  get declared(): ReadonlyMap<string, Value> {
    return this.#declared;
  }

  /** Modules whose change no layer asked for: none, once a whole network is built. */
  get unused(): readonly string[] {
    return [...this.#changes.keys()].filter((name) => !this.#used.has(name));
  }

  thin(module: string): ThinPair | undefined {
    const change = this.#changes.get(module);
    if (change?.delta?.kind !== "product" || change.magnitude !== undefined) return undefined;
    const { rank, alpha } = change.delta;
    const [a, b] = [this.#input(change, "lora_A.weight"), this.#input(change, "lora_B.weight")];
    return { a, b, scale: alpha / rank, mayMerge: this.#mayMerge };
  }

  has(path: string): boolean {
    const [change, end] = this.#find(path);
    return end === "bias" ? change?.bias === true : end === "weight" && change !== undefined &&
      (change.delta !== undefined || change.magnitude !== undefined);
  }

  apply(path: string, stored: Value | undefined): Value | undefined {
    const [change, end] = this.#find(path);
    if (change === undefined || !this.has(path)) return stored;
    const b = this.#b;
    if (end === "bias") {
      const added = this.#input(change, "diff_b");
      return stored === undefined ? added : b.add(stored, b.cast(added, stored.dtype));
    }
    if (stored === undefined) return undefined;
    const weight = b.reshape(stored, matrixOf(change.layer));
    const read = (name: string) => b.cast(this.#input(change, name), stored.dtype);
    const changed = change.delta === undefined ? weight : deltaOf(b, weight, { change, read });
    return b.reshape(withMagnitude(b, changed, { change, read }), stored.shape);
  }

  #find(path: string): readonly [ModuleChange | undefined, string] {
    const at = path.lastIndexOf(".");
    return [this.#changes.get(path.slice(0, at)), path.slice(at + 1)];
  }

  #input({ layer, ...change }: ModuleChange, end: string): Value {
    const name = `${layer.name}.${end}`;
    this.#used.add(layer.name);
    const known = this.#declared.get(name);
    if (known !== undefined) return known;
    const found = changeShapes({ layer, ...change }).find((s) => s.name === name);
    if (found === undefined) throw new RangeError(`The change of "${layer.name}" has no ${end}`);
    const value = this.#b.input(name, { dtype: "float32", shape: found.shape });
    this.#declared.set(name, value);
    return value;
  }
}
