import type { Value } from "../../autodiff/mod.ts";
import { layerNorm, linear } from "../nn.ts";
import type { WeightScope } from "../weight_scope.ts";

/** Activations of CLIP's MLPs: `gelu` is exact, x Φ(x); `quick_gelu` is x sigmoid(1.702 x). */
export type ClipActivation = "gelu" | "quick_gelu";

/** Shape of a stack of CLIP's pre-norm transformer blocks, the same for text and vision. */
export interface ClipBlocksConfig {
  readonly layers: number;
  /** Divides the width of the hidden states. */
  readonly heads: number;
  /** Width of the MLP's hidden layer. */
  readonly mlpWidth: number;
  readonly activation: ClipActivation;
  /** Of every layer normalization. */
  readonly epsilon: number;
}

/** How `clipBlocks` runs. */
export interface ClipBlocksOptions {
  readonly config: ClipBlocksConfig;
  /** Additive, [1, 1, N, N]. */
  readonly mask?: Value;
  /** Compute the last block for the first token only: all that a pooled vision tower needs of it. Default false. */
  readonly firstTokenOnly?: boolean;
}

/**
 * The blocks `layers.0`, `layers.1`, ... in transformers' names, of x [B, N, width].
 * Returns the state before the first block and after each: `config.layers + 1` values, [B, N, width] but for the last,
 * which is [B, 1, width] with `firstTokenOnly`.
 */
export function clipBlocks(
  s: WeightScope,
  x: Value,
  { config, mask, firstTokenOnly = false }: ClipBlocksOptions,
): readonly Value[] {
  const states = [x];
  let h = x;
  for (let i = 0; i < config.layers; i++) {
    const tokens = firstTokenOnly && i === config.layers - 1 ? 1 : h.shape[1] ?? 1;
    h = s.b.scope(`layers.${i}`, () => block(s.at(`layers.${i}`), h, { config, mask, tokens }));
    states.push(h);
  }
  return states;
}

/** One block, of which only the first `tokens` tokens are computed. */
function block(
  s: WeightScope,
  x: Value,
  { config, mask, tokens }: {
    config: ClipBlocksConfig;
    mask: Value | undefined;
    tokens: number;
  },
): Value {
  const { b } = s;
  const [, all = 1, width = 1] = x.shape;
  const { heads, mlpWidth, activation, epsilon } = config;
  const first = (v: Value) => tokens === all ? v : b.slice(v, { axis: 1, start: 0, end: tokens });
  const normed = layerNorm(s.at("layer_norm1"), x, epsilon);
  const project = (name: string, v: Value) => linear(s.at(`self_attn.${name}`), v, width);
  const [q, k, v] = [
    project("q_proj", first(normed)),
    project("k_proj", normed),
    project("v_proj", normed),
  ];
  const attended = b.attention(q, k, v, { heads, ...(mask === undefined ? {} : { mask }) });
  const h = b.add(first(x), linear(s.at("self_attn.out_proj"), attended, width));
  const inner = linear(s.at("mlp.fc1"), layerNorm(s.at("layer_norm2"), h, epsilon), mlpWidth);
  const active = activation === "gelu" ? b.gelu(inner) : b.quickGelu(inner);
  return b.add(h, linear(s.at("mlp.fc2"), active, width));
}
