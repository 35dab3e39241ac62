import type { Value } from "../../autodiff/mod.ts";
import { groupNorm, layerNorm, linear } from "../nn.ts";
import type { WeightScope } from "../weight_scope.ts";
import { rowsLike } from "./_rows_like.ts";

/** A linear layer that may be stored as a 1x1 convolution. */
function projection(s: WeightScope, x: Value, stored: "matrix" | "convolution"): Value {
  const width = x.shape.at(-1) ?? 1;
  const shape = stored === "matrix" ? [width, width] : [width, width, 1, 1];
  return linear(s, x, width, shape);
}

/** The way into diffusers' `Transformer2DModel`: x [B, C, H, W], normalized, as tokens [B, H·W, C]. */
export function tokensOf(
  s: WeightScope,
  x: Value,
  { groups, stored }: { readonly groups: number; readonly stored: "matrix" | "convolution" },
): Value {
  const { b } = s;
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const normed = groupNorm(s.at("norm"), x, { groups, epsilon: 1e-6 });
  const tokens = b.reshape(b.transpose(normed, [0, 2, 3, 1]), [batch, height * width, channels]);
  return projection(s.at("proj_in"), tokens, stored);
}

/** The way out of `Transformer2DModel`: tokens [B, H·W, C] added to what went in, [B, C, H, W]. */
export function addTokens(
  s: WeightScope,
  x: Value,
  { tokens, stored }: { readonly tokens: Value; readonly stored: "matrix" | "convolution" },
): Value {
  const { b } = s;
  const [, channels = 1, height = 1, width = 1] = x.shape;
  const y = projection(s.at("proj_out"), tokens, stored);
  const grid = b.reshape(y, [tokens.shape[0] ?? 1, height, width, channels]);
  return b.add(b.transpose(grid, [0, 3, 1, 2]), rowsLike(b, x, tokens));
}

/**
 * diffusers' `BasicTransformerBlock` of tokens x [B, N, C]: attention within x, attention to the text states
 * `context` [B, M, D], and a gated MLP (GEGLU), each normalized first and added.
 */
export function transformerBlock(
  s: WeightScope,
  x: Value,
  { context, heads, crossAttentionOnly }: {
    readonly context: Value;
    readonly heads: number;
    /** The first attention reads the text states too. */
    readonly crossAttentionOnly: boolean;
  },
): Value {
  const { b } = s;
  const width = x.shape.at(-1) ?? 1;
  const attention = (name: string, query: Value, other: Value) => {
    const project = (end: string, v: Value) => linear(s.at(`${name}.${end}`), v, width);
    const [q, k, v] = [project("to_q", query), project("to_k", other), project("to_v", other)];
    return project("to_out.0", b.attention(q, k, v, { heads }));
  };
  const own = layerNorm(s.at("norm1"), x);
  // Rows that differ in their context only are the same up to here.
  const first = crossAttentionOnly
    ? b.add(attention("attn1", rowsLike(b, own, context), context), rowsLike(b, x, context))
    : b.add(attention("attn1", own, own), x);
  const attended = rowsLike(b, first, context);
  const read = b.add(attention("attn2", layerNorm(s.at("norm2"), attended), context), attended);
  const [value, gate] = valueAndGate(s.at("ff.net.0.proj"), layerNorm(s.at("norm3"), read));
  const gated = b.mul(value, b.gelu(gate));
  return b.add(linear(s.at("ff.net.2"), gated, width), read);
}

/** Both halves of a gated layer, [B, N, 4·C] each: products of their own, for which the weight's rows lie apart already. */
function valueAndGate(s: WeightScope, x: Value): readonly [Value, Value] {
  const { b } = s;
  const width = x.shape.at(-1) ?? 1;
  const [out, half] = [8 * width, 4 * width];
  if (s.thin() !== undefined) {
    const both = linear(s, x, out);
    const part = (start: number) => b.slice(both, { axis: 2, start, end: start + half });
    return [part(0), part(half)];
  }
  const part = (start: number) => {
    const rows = { start, end: start + half };
    return b.linear(x, s.rows("weight", [out, width], rows), s.rows("bias", [out], rows));
  };
  return [part(0), part(half)];
}
