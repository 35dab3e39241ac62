import { type Builder, sizeOf, type Value } from "../../autodiff/mod.ts";
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
  /**
   * Which tokens are wanted of the last block, where not all are: with them most of its gradient is spared.
   * `"first"` computes the first alone, all that a pooled tower needs. A function is told them all, [B, N, width], and
   * returns the wanted ones' positions, int64 [B, n]; those are computed again, and gradients flow through them only.
   */
  readonly lastTokens?: "first" | ((all: Value) => Value);
}

/**
 * The blocks `layers.0`, `layers.1`, ... in transformers' names, of x [B, N, width].
 * Returns the state before the first block and after each: `config.layers + 1` values, [B, N, width] but for the last,
 * which has the wanted tokens where `lastTokens` chooses some.
 */
export function clipBlocks(
  s: WeightScope,
  x: Value,
  { config, mask, lastTokens }: ClipBlocksOptions,
): readonly Value[] {
  const { b } = s;
  const [batch = 1, , width = 1] = x.shape;
  const asTokens = (rows: Value) => b.reshape(rows, [batch, (rows.shape[0] ?? 1) / batch, width]);
  const states = [x];
  // One matrix of all tokens: products, normalizations and sums need no other shape.
  let rows = b.reshape(x, [sizeOf(x.shape) / width, width]);
  for (let i = 0; i < config.layers; i++) {
    const wanted = i === config.layers - 1 ? lastTokens : undefined;
    const at = s.at(`layers.${i}`);
    rows = b.scope(`layers.${i}`, () => block(at, rows, { config, mask, wanted, asTokens }));
    states.push(asTokens(rows));
  }
  return states;
}

/** One block, of rows [B·N, width]. */
function block(
  s: WeightScope,
  x: Value,
  { config, mask, wanted, asTokens }: {
    config: ClipBlocksConfig;
    mask: Value | undefined;
    wanted: ClipBlocksOptions["lastTokens"];
    /** Rows as [B, N, width]. */
    asTokens: (rows: Value) => Value;
  },
): Value {
  const { b } = s;
  const { heads, mlpWidth, activation, epsilon } = config;
  const width = x.shape[1] ?? 1;
  const normed = layerNorm(s.at("layer_norm1"), x, epsilon);
  const project = (name: string, v: Value) => asTokens(linear(s.at(`self_attn.${name}`), v, width));
  const [k, v] = [project("k_proj", normed), project("v_proj", normed)];
  /** The block for the rows that `choose` takes of each value. */
  const compute = (choose: (v: Value) => Value): Value => {
    const q = project("q_proj", choose(normed));
    const attended = b.attention(q, k, v, { heads, ...(mask === undefined ? {} : { mask }) });
    const merged = b.reshape(attended, [sizeOf(attended.shape) / width, width]);
    const h = b.add(choose(x), linear(s.at("self_attn.out_proj"), merged, width));
    const inner = linear(s.at("mlp.fc1"), layerNorm(s.at("layer_norm2"), h, epsilon), mlpWidth);
    const active = activation === "gelu" ? b.gelu(inner) : b.quickGelu(inner);
    return b.add(h, linear(s.at("mlp.fc2"), active, width));
  };
  if (wanted === undefined) return compute((v) => v);
  const positions = wanted === "first"
    ? b.expand(b.ints([0]), [k.shape[0] ?? 1, 1])
    : wanted(asTokens(compute((v) => v)));
  return compute((v) => rowsAt(b, v, positions));
}

/** The rows of tokens at int64 positions [B, n] of rows x [B·N, width]: [B·n, width]. */
function rowsAt(b: Builder, x: Value, positions: Value): Value {
  const [batch = 1, count = 1] = positions.shape;
  const tokens = (x.shape[0] ?? 1) / batch;
  const starts = b.reshape(b.ints(Array.from({ length: batch }, (_, i) => i * tokens)), [batch, 1]);
  return b.gather(x, b.reshape(b.add(positions, starts), [batch * count]));
}
