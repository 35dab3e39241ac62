import { float32, type Shape, sizeOf } from "../../autodiff/mod.ts";
import {
  type AdaptableLayer,
  type LoraConfig,
  loraModules,
  type LoraShape,
  type LoraTensors,
  pairShapes,
} from "./adapter.ts";

/** What is added to a module's weight, taken as a matrix [out, n] with n = in · height · width. */
export type Delta =
  /** alpha / rank · B A: LoRA and LoCon. */
  | { readonly kind: "product"; readonly rank: number; readonly alpha: number }
  /** scale · (A1 B1) ∘ (A2 B2): LoHa. */
  | {
    readonly kind: "hadamard";
    readonly ranks: readonly [number, number];
    readonly scale: number;
  }
  /**
   * scale · W1 ⊗ W2, of shapes [a, b] and [c, d]: LoKr. Of its a · c rows the module's `out` come after `skip`, where a file
   * fuses the module with others.
   */
  | {
    readonly kind: "kronecker";
    readonly left: readonly [number, number];
    readonly right: readonly [number, number];
    readonly skip: number;
    readonly scale: number;
  }
  /** A matrix of the weight's own size. */
  | { readonly kind: "difference" };

/**
 * How one module's weight is changed: W + delta; with `magnitude` (DoRA) every row, or every input's columns, of that is
 * given the length that the magnitude says. `bias`: a vector is added to the bias, which need not have been there.
 */
export interface ModuleChange {
  readonly layer: AdaptableLayer;
  readonly delta?: Delta | undefined;
  readonly magnitude?: "out" | "in" | undefined;
  readonly bias?: boolean | undefined;
}

/** Changes of one network, with the values of `changeShapes`. */
export interface Adapter {
  readonly changes: readonly ModuleChange[];
  readonly tensors: LoraTensors;
}

/** The changes that a plain LoRA makes; its tensors are those of `loraShapes`. Throws as `loraModules` does. */
export function loraChanges(
  layers: readonly AdaptableLayer[],
  config: LoraConfig,
): readonly ModuleChange[] {
  return loraModules(layers, config).map(({ layer, rank, alpha }) => ({
    layer,
    delta: { kind: "product", rank, alpha },
  }));
}

/** A weight as a matrix: its rows, and the numbers in each. */
export function matrixOf({ shape }: AdaptableLayer): readonly [out: number, n: number] {
  const [out = 1] = shape;
  return [out, sizeOf(shape) / out];
}

/** Every tensor of a change: those of its delta, then its magnitude and its bias. */
export function changeShapes(
  { layer, delta, magnitude, bias }: ModuleChange,
): readonly LoraShape[] {
  const shapes = delta === undefined ? [] : [...deltaShapes(layer, delta)];
  const [out = 1, width = 1] = layer.shape;
  const add = (end: string, shape: Shape) => shapes.push({ name: `${layer.name}.${end}`, shape });
  if (magnitude !== undefined) {
    add("lora_magnitude_vector", [magnitude === "out" ? out : width]);
  }
  if (bias) add("diff_b", [out]);
  return shapes;
}

function deltaShapes(layer: AdaptableLayer, delta: Delta): readonly LoraShape[] {
  const [out, n] = matrixOf(layer);
  const named = (shapes: Record<string, Shape>) =>
    Object.entries(shapes).map(([end, shape]) => ({ name: `${layer.name}.${end}`, shape }));
  switch (delta.kind) {
    case "product":
      return pairShapes(layer, delta.rank);
    case "hadamard": {
      const [first, second] = delta.ranks;
      return named({
        hada_w1_a: [out, first],
        hada_w1_b: [first, n],
        hada_w2_a: [out, second],
        hada_w2_b: [second, n],
      });
    }
    case "kronecker":
      return named({ lokr_w1: delta.left, lokr_w2: delta.right });
    case "difference":
      return named({ diff: [out, n] });
  }
}

/** The tensors to which a change is linear. */
const SCALED = [".lora_B.weight", ".hada_w1_a", ".lokr_w1", ".diff", ".diff_b"] as const;

/**
 * Tensors with which changes are `scale` times as large. Of DoRA, as PEFT does it, the added product is: the magnitudes
 * stay.
 */
export function scaledTensors(tensors: LoraTensors, scale: number): LoraTensors {
  if (scale === 1) return tensors;
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) =>
      SCALED.some((end) => name.endsWith(end))
        ? [name, float32(tensor.data.map((v) => v * scale), tensor.shape)]
        : [name, tensor]
    ),
  );
}
