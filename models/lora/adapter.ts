import type { TensorOf } from "../../autodiff/mod.ts";
import { Random } from "../random/mod.ts";

/** A linear layer that can be adapted: a module's name in diffusers and the shape of its weight, [out, in]. */
export interface AdaptableLayer {
  readonly name: string;
  readonly out: number;
  readonly in: number;
  /** The module's name in the original (CompVis) layout, which some LoRA files for SDXL use. */
  readonly originalName: string;
}

/** The modules adapted by default: a transformer block's attention projections. */
export const ATTENTION_TARGETS: readonly string[] = ["to_q", "to_k", "to_v", "to_out.0"];

const MAX_RANK = 4096;

/** Which layers get an adapter, and of what size. */
export interface LoraConfig {
  /** Rows of A and columns of B, from 1 to 4096. */
  readonly rank: number;
  /** The adapter's product is multiplied by alpha / rank. */
  readonly alpha: number;
  /** Module names or their ends, as PEFT's `target_modules`. Default `ATTENTION_TARGETS`. */
  readonly targets?: readonly string[];
}

/** An adapter tensor: `<module>.lora_A.weight` [rank, in] or `<module>.lora_B.weight` [out, rank], PEFT's names. */
export interface LoraShape {
  readonly name: string;
  readonly shape: readonly [number, number];
}

/** Adapter tensors by the names of `loraShapes`. */
export type LoraTensors = Readonly<Record<string, TensorOf<"float32">>>;

/**
 * Every adapter tensor of a model, A then B, layers in the order given. Throws `RangeError` for a rank or alpha that
 * is none, and for a target that no layer ends in.
 */
export function loraShapes(
  layers: readonly AdaptableLayer[],
  { rank, alpha, targets = ATTENTION_TARGETS }: LoraConfig,
): readonly LoraShape[] {
  if (!Number.isInteger(rank) || rank < 1 || rank > MAX_RANK) {
    throw new RangeError(`LoRA rank is ${rank}, expected a whole number from 1 to ${MAX_RANK}`);
  }
  if (!Number.isFinite(alpha) || alpha <= 0) {
    throw new RangeError(`LoRA alpha is ${alpha}, expected a number above 0`);
  }
  if (targets.length === 0) throw new RangeError("LoRA targets are empty, expected at least one");
  for (const target of targets) {
    if (layers.some(({ name }) => isTarget(name, target))) continue;
    const known = [...new Set(layers.map(({ name }) => endOf(name)))].join(", ");
    throw new RangeError(`LoRA target "${target}" names no layer; the adaptable ones are ${known}`);
  }
  return layers.filter(({ name }) => targets.some((target) => isTarget(name, target))).flatMap((
    { name, out, in: width },
  ): LoraShape[] => [
    { name: `${name}.lora_A.weight`, shape: [rank, width] },
    { name: `${name}.lora_B.weight`, shape: [out, rank] },
  ]);
}

/** The part of a module's name by which targets usually go: "to_q", "to_out.0", "ff.net.2". */
export function endOf(name: string): string {
  return name.replace(/^.*\.transformer_blocks\.\d+\.(?:attn\d+\.)?/, "");
}

/** Whether a target, PEFT's name for a module or the end of one, means the module `name`. */
export function isTarget(name: string, target: string): boolean {
  return name === target || name.endsWith(`.${target}`);
}

/**
 * Initial values, as PEFT draws them: A uniform in ±1/√in (Kaiming with a = √5), B zero, so that a new adapter
 * changes nothing. Each tensor has a stream of its own: its values depend on `seed` and its place in `shapes` alone.
 */
export function initialLora(shapes: readonly LoraShape[], seed: number): LoraTensors {
  return Object.fromEntries(shapes.map(({ name, shape }, stream) => {
    const data = new Float32Array(shape[0] * shape[1]);
    if (name.endsWith(".lora_A.weight")) {
      const random = new Random(seed, stream);
      const bound = 1 / Math.sqrt(shape[1]);
      for (let i = 0; i < data.length; i++) data[i] = (2 * random.uniform() - 1) * bound;
    }
    return [name, { dtype: "float32", shape, data }];
  }));
}
