import { type Shape, sizeOf, type TensorOf } from "../../autodiff/mod.ts";
import { Random } from "../random/mod.ts";

/** A module whose weight can be changed: a linear layer, a convolution, or a normalization. */
export interface AdaptableLayer {
  /** Its name in the model's state dict, as "mid_block.attentions.0.proj_in". */
  readonly name: string;
  /** Of its weight: [out, in], [out, in, height, width], or [width] of a normalization. */
  readonly shape: Shape;
  /** Other names by which files may call it: in other layouts of the same model, or in older libraries. */
  readonly aliases: readonly LayerAlias[];
}

/** A name of a module elsewhere. */
export interface LayerAlias {
  readonly name: string;
  /** The rows of that module's weight that are this one's, where it fuses several; absent: all. */
  readonly rows?: readonly [start: number, end: number];
}

/** The modules adapted by default: a transformer block's attention projections. */
export const ATTENTION_TARGETS: readonly string[] = ["to_q", "to_k", "to_v", "to_out.0"];

/** Largest rank of an adapter. */
export const MAX_RANK = 4096;

/** Which layers get an adapter, and of what size. */
export interface LoraConfig {
  /** Rows of A and columns of B, from 1 to 4096. */
  readonly rank: number;
  /** The adapter's product is multiplied by alpha / rank. */
  readonly alpha: number;
  /** Module names or their ends, as PEFT's `target_modules`. Default `ATTENTION_TARGETS`. */
  readonly targets?: readonly string[] | undefined;
  /** Ranks of some modules, by their names or the ends of these; of several that fit, the first counts. */
  readonly rankPattern?: Readonly<Record<string, number>> | undefined;
  /** Alphas of some modules, likewise. */
  readonly alphaPattern?: Readonly<Record<string, number>> | undefined;
}

/** An adapter tensor's name and shape. */
export interface LoraShape {
  /** `<module>.lora_A.weight` or `<module>.lora_B.weight`, PEFT's names. */
  readonly name: string;
  /** [rank, in] or [out, rank]; of a convolution [rank, in, height, width] or [out, rank, 1, 1]. */
  readonly shape: Shape;
}

/** Adapter tensors by the names of `loraShapes`. */
export type LoraTensors = Readonly<Record<string, TensorOf<"float32">>>;

/** One module's adapter. */
export interface LoraModule {
  readonly layer: AdaptableLayer;
  readonly rank: number;
  readonly alpha: number;
}

/**
 * The modules that get an adapter, layers in the order given. Throws `RangeError` for a rank or alpha that is none, and
 * for a target or pattern that no layer ends in.
 */
export function loraModules(
  layers: readonly AdaptableLayer[],
  { rank, alpha, targets = ATTENTION_TARGETS, rankPattern = {}, alphaPattern = {} }: LoraConfig,
): readonly LoraModule[] {
  for (const r of [rank, ...Object.values(rankPattern)]) {
    if (Number.isInteger(r) && r >= 1 && r <= MAX_RANK) continue;
    throw new RangeError(`LoRA rank is ${r}, expected a whole number from 1 to ${MAX_RANK}`);
  }
  for (const a of [alpha, ...Object.values(alphaPattern)]) {
    if (Number.isFinite(a) && a > 0) continue;
    throw new RangeError(`LoRA alpha is ${a}, expected a number above 0`);
  }
  if (targets.length === 0) throw new RangeError("LoRA targets are empty, expected at least one");
  const products = layers.filter(({ shape }) => shape.length > 1);
  const reached = (target: string) => products.some(({ name }) => isTarget(name, target));
  for (const target of targets) {
    if (reached(target)) continue;
    const known = [...new Set(products.map(({ name }) => endOf(name)))].join(", ");
    throw new RangeError(`LoRA target "${target}" names no layer; the adaptable ones are ${known}`);
  }
  for (const key of [...Object.keys(rankPattern), ...Object.keys(alphaPattern)]) {
    if (!reached(key)) throw new RangeError(`LoRA pattern "${key}" names no layer`);
  }
  const find = (pattern: Readonly<Record<string, number>>, name: string) =>
    Object.entries(pattern).find(([key]) => isTarget(name, key))?.[1];
  return products.filter(({ name }) => targets.some((target) => isTarget(name, target))).map(
    (layer) => ({
      layer,
      rank: find(rankPattern, layer.name) ?? rank,
      alpha: find(alphaPattern, layer.name) ?? alpha,
    }),
  );
}

/** Every adapter tensor of a model, A then B, layers in the order given. Throws as `loraModules` does. */
export function loraShapes(
  layers: readonly AdaptableLayer[],
  config: LoraConfig,
): readonly LoraShape[] {
  return loraModules(layers, config).flatMap(({ layer, rank }) => pairShapes(layer, rank));
}

/** A and B of one module, as PEFT has them. */
export function pairShapes({ name, shape }: AdaptableLayer, rank: number): readonly LoraShape[] {
  const [out = 1, ...width] = shape;
  return [
    { name: `${name}.lora_A.weight`, shape: [rank, ...width] },
    { name: `${name}.lora_B.weight`, shape: [out, rank, ...width.slice(1).map(() => 1)] },
  ];
}

/** The part of a module's name by which targets usually go: "to_q", "to_out.0", "ff.net.2". */
export function endOf(name: string): string {
  const inBlock = name.replace(/^.*\.transformer_blocks\.\d+\.(?:attn\d+\.)?/, "");
  return inBlock === name ? name.replace(/^.*\.(?=.*[a-z].*$)/, "") : inBlock;
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
    const data = new Float32Array(sizeOf(shape));
    if (name.endsWith(".lora_A.weight")) {
      const random = new Random(seed, stream);
      const bound = 1 / Math.sqrt(sizeOf(shape.slice(1)));
      for (let i = 0; i < data.length; i++) data[i] = (2 * random.uniform() - 1) * bound;
    }
    return [name, { dtype: "float32", shape, data }];
  }));
}
