import { type Builder, sizeOf, type Value } from "../../autodiff/mod.ts";
import { linear } from "../nn.ts";
import type { TransformerContext } from "./transformer.ts";

/** A linear layer by its full name. */
export function project(
  { s }: TransformerContext,
  path: string,
  { x, out }: { readonly x: Value; readonly out: number },
): Value {
  return linear(s.at(path), x, out);
}

/** Two linear layers with silu between them, as diffusers' `TimestepEmbedding`: [N, out]. */
export function embedding(
  c: TransformerContext,
  path: string,
  { x, out }: { readonly x: Value; readonly out: number },
): Value {
  const first = project(c, `${path}.linear_1`, { x, out });
  return project(c, `${path}.linear_2`, { x: c.b.silu(first), out });
}

/**
 * What a condition [B, C] makes of a block: `count` vectors of the block's width, [B, 1, width] each, from one linear
 * layer.
 */
export function modulation(
  c: TransformerContext,
  path: string,
  { condition, width, count }: {
    readonly condition: Value;
    readonly width: number;
    readonly count: number;
  },
): readonly Value[] {
  const all = project(c, path, { x: condition, out: count * width });
  const rows = c.b.reshape(all, [all.shape[0] ?? 1, 1, count * width]);
  return c.b.split(rows, Array.from({ length: count }, () => width), 2);
}

/** Layer normalization over the last axis without scale and bias. */
export function plainNorm(b: Builder, x: Value, epsilon: number): Value {
  const scale = b.fill(1, { dtype: x.dtype, shape: [x.shape.at(-1) ?? 1] });
  return b.layerNorm(x, { scale, epsilon });
}

/** LayerNorm(x) (1 + scale) + shift. */
export function modulated(
  b: Builder,
  x: Value,
  { scale, shift, epsilon = 1e-6 }: {
    readonly scale: Value;
    readonly shift: Value;
    readonly epsilon?: number;
  },
): Value {
  return b.add(b.mul(plainNorm(b, x, epsilon), b.add(scale, 1)), shift);
}

/** x + gate ∘ y. */
export function gated(
  b: Builder,
  x: Value,
  { gate, y }: { readonly gate: Value; readonly y: Value },
): Value {
  return b.add(x, b.mul(gate, y));
}

/** Two linear layers with GELU's tanh approximation between them, as diffusers' `FeedForward`. */
export function feedForward(
  c: TransformerContext,
  path: string,
  { x, width }: { readonly x: Value; readonly width: number },
): Value {
  const out = x.shape.at(-1) ?? 1;
  const inner = c.b.gelu(project(c, `${path}.net.0.proj`, { x, out: width }), "tanh");
  return project(c, `${path}.net.2`, { x: inner, out });
}

/** Tokens `start`..`end`-1 of x [B, N, C]. */
export function tokensOf(
  b: Builder,
  x: Value,
  [start, end]: readonly [number, number],
): Value {
  return start === 0 && end === x.shape[1] ? x : b.slice(x, { axis: 1, start, end });
}

/** A modulation of three: x is scaled and shifted before a layer, and what it gives is scaled by the gate. */
export interface Modulation {
  readonly shift: Value;
  readonly scale: Value;
  readonly gate: Value;
}

/** Vectors in threes: shift, scale, gate; shift, scale, gate... */
export function inThrees(values: readonly Value[]): readonly Modulation[] {
  return Array.from({ length: values.length / 3 }, (_, i) => {
    const [shift, scale, gate] = values.slice(3 * i, 3 * i + 3);
    if (shift === undefined || scale === undefined || gate === undefined) throw missing();
    return { shift, scale, gate };
  });
}

/** The `i`-th of some modulations. */
export function nth(modulations: readonly Modulation[], i: number): Modulation {
  const found = modulations[i];
  if (found === undefined) throw missing();
  return found;
}

/** Two vectors, scale and shift, as the last normalization has them. */
export function scaleAndShift(values: readonly Value[]): { scale: Value; shift: Value } {
  const [scale, shift] = values;
  if (scale === undefined || shift === undefined) throw missing();
  return { scale, shift };
}

function missing(): RangeError {
  return new RangeError("A vector of a modulation is missing");
}

/** Tokens of p x p patches back to [B, C, H, W]; each token [p, p, C] of a grid [H/p, W/p]. */
export function unpatchify(
  b: Builder,
  x: Value,
  { height, width, patch }: {
    readonly height: number;
    readonly width: number;
    readonly patch: number;
  },
): Value {
  const batch = x.shape[0] ?? 1;
  const [rows, columns] = [height / patch, width / patch];
  const channels = sizeOf(x.shape) / (batch * height * width);
  const grid = b.reshape(x, [batch, rows, columns, patch, patch, channels]);
  return b.reshape(b.transpose(grid, [0, 5, 1, 3, 2, 4]), [batch, channels, height, width]);
}
