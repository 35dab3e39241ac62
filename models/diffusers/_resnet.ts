import type { Value } from "../../autodiff/mod.ts";
import { conv2d, groupNorm, linear } from "../nn.ts";
import type { WeightScope } from "../weight_scope.ts";

/** Options of a residual block and of an upsampler. */
export interface ResnetOptions {
  /** Of the result. */
  readonly channels: number;
  readonly groups: number;
  readonly epsilon: number;
  /** silu of the time embedding, [B, width]; absent in a VAE. */
  readonly time?: Value;
}

/** diffusers' `ResnetBlock2D` of x [B, C, H, W]: two normalized convolutions and a shortcut, 1x1 where C changes. */
export function resnet(
  s: WeightScope,
  x: Value,
  { channels, groups, epsilon, time }: ResnetOptions,
): Value {
  const { b } = s;
  const half = (i: 1 | 2, v: Value) => {
    const active = b.silu(groupNorm(s.at(`norm${i}`), v, { groups, epsilon }));
    return conv2d(s.at(`conv${i}`), active, { out: channels, kernel: 3 });
  };
  const first = half(1, x);
  const timed = time === undefined
    ? first
    : b.add(first, b.unsqueeze(linear(s.at("time_emb_proj"), time, channels), [2, 3]));
  const shortcut = x.shape[1] === channels
    ? x
    : conv2d(s.at("conv_shortcut"), x, { out: channels, kernel: 1 });
  return b.add(shortcut, half(2, timed));
}

/**
 * diffusers' `Upsample2D`: each pixel twice along both axes, then a convolution. `size` [H, W] is that or one less:
 * where a size was odd on the way down, the last row or column is dropped (what nearest interpolation to it does).
 */
export function upsample(
  s: WeightScope,
  x: Value,
  size: readonly [number, number],
): Value {
  const { b } = s;
  let wide = b.upsampleNearest(x, 2);
  for (const [i, end] of size.entries()) {
    const axis = i + 2;
    if (wide.shape[axis] !== end) wide = b.slice(wide, { axis, start: 0, end });
  }
  return conv2d(s.at("conv"), wide, { out: x.shape[1] ?? 1, kernel: 3 });
}
