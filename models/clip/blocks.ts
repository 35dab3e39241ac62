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

/**
 * The blocks `layers.0`, `layers.1`, ... in transformers' names, of x [B, N, width]; `mask` is additive, [1, 1, N, N].
 * Returns the state before the first block and after each: `config.layers + 1` values.
 */
export function clipBlocks(
  s: WeightScope,
  x: Value,
  { config, mask }: { readonly config: ClipBlocksConfig; readonly mask?: Value },
): readonly Value[] {
  const states = [x];
  let h = x;
  for (let i = 0; i < config.layers; i++) {
    h = s.b.scope(`layers.${i}`, () => block(s.at(`layers.${i}`), h, { config, mask }));
    states.push(h);
  }
  return states;
}

function block(
  s: WeightScope,
  x: Value,
  { config, mask }: { config: ClipBlocksConfig; mask: Value | undefined },
): Value {
  const { b } = s;
  const width = x.shape.at(-1) ?? 1;
  const { heads, mlpWidth, activation, epsilon } = config;
  const normed = layerNorm(s.at("layer_norm1"), x, epsilon);
  const project = (name: string) => linear(s.at(`self_attn.${name}`), normed, width);
  const [q, k, v] = [project("q_proj"), project("k_proj"), project("v_proj")];
  const attended = b.attention(q, k, v, { heads, ...(mask === undefined ? {} : { mask }) });
  const h = b.add(x, linear(s.at("self_attn.out_proj"), attended, width));
  const inner = linear(s.at("mlp.fc1"), layerNorm(s.at("layer_norm2"), h, epsilon), mlpWidth);
  const active = activation === "gelu" ? b.gelu(inner) : b.quickGelu(inner);
  return b.add(h, linear(s.at("mlp.fc2"), active, width));
}
