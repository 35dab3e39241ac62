import type { Shape, Value } from "../autodiff/mod.ts";
import { adaptedConv2d, adaptedLinear } from "./lora/mod.ts";
import type { WeightScope } from "./weight_scope.ts";

/**
 * x Wᵀ + b over the last axis: `weight` [out, in] and, where the state dict has one, `bias` [out]. `stored` is the weight's
 * shape there, where that is another: that of a 1x1 convolution. A thin adapter is computed beside it where that is cheaper.
 */
export function linear(
  s: WeightScope,
  x: Value,
  out: number,
  stored: Shape = [out, x.shape.at(-1) ?? 1],
): Value {
  const shape = [out, x.shape.at(-1) ?? 1];
  const pair = s.thin();
  const weight = pair ? s.unchanged("weight", stored, shape) : s.get("weight", stored, shape);
  const bias = s.has("bias") ? s.get("bias", [out]) : undefined;
  return pair ? adaptedLinear(s.b, x, { weight, bias, pair }) : s.b.linear(x, weight, bias);
}

/** Layer normalization over the last axis. */
export function layerNorm(s: WeightScope, x: Value, epsilon = 1e-5): Value {
  const shape = [x.shape.at(-1) ?? 1];
  return s.b.layerNorm(x, { scale: s.get("weight", shape), bias: s.get("bias", shape), epsilon });
}

/** x / √(mean x² + ε) ∘ weight over the last axis (Zhang and Sennrich, arXiv 1910.07467). */
export function rmsNorm(s: WeightScope, x: Value, epsilon: number): Value {
  const { b } = s;
  const square = b.mean(b.mul(x, x), { axes: [x.shape.length - 1] });
  const normalized = b.mul(x, b.reciprocal(b.sqrt(b.add(square, epsilon))));
  return b.mul(normalized, s.get("weight", [x.shape.at(-1) ?? 1]));
}

/** Group normalization of x [B, C, H, W], then silu if asked for. */
export function groupNorm(
  s: WeightScope,
  x: Value,
  options: { readonly groups: number; readonly epsilon: number; readonly silu?: boolean },
): Value {
  const shape = [x.shape[1] ?? 1];
  const [scale, bias] = [s.get("weight", shape), s.get("bias", shape)];
  return s.b.groupNorm(x, { ...options, scale, bias });
}

/** Two-dimensional convolution of x [B, C, H, W] with `weight` [out, C, kernel, kernel] and its `bias`, if any. */
export function conv2d(
  s: WeightScope,
  x: Value,
  { out, kernel, stride = 1, padding = (kernel - 1) / 2 }: {
    readonly out: number;
    readonly kernel: number;
    readonly stride?: number;
    readonly padding?: number | readonly [number, number, number, number];
  },
): Value {
  const shape = [out, x.shape[1] ?? 1, kernel, kernel];
  const pair = s.thin();
  const weight = pair ? s.unchanged("weight", shape) : s.get("weight", shape);
  const bias = s.has("bias") ? s.get("bias", [out]) : undefined;
  const geometry = { stride, padding };
  return pair
    ? adaptedConv2d(s.b, x, { weight, bias, pair, ...geometry })
    : s.b.conv2d(x, weight, { ...geometry, ...(bias && { bias }) });
}
