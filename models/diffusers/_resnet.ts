import type { Value } from "../../autodiff/mod.ts";
import { conv2d, groupNorm, linear } from "../nn.ts";
import type { WeightScope } from "../weight_scope.ts";
import { rowsLike } from "./_rows_like.ts";

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
    const active = groupNorm(s.at(`norm${i}`), v, { groups, epsilon, silu: true });
    return conv2d(s.at(`conv${i}`), active, { out: channels, kernel: 3 });
  };
  const first = half(1, x);
  const timed = time === undefined ? first : addTime(s.at("time_emb_proj"), first, time);
  const shortcut = x.shape[1] === channels
    ? x
    : conv2d(s.at("conv_shortcut"), x, { out: channels, kernel: 1 });
  return b.add(rowsLike(b, shortcut, timed), half(2, timed));
}

function addTime(s: WeightScope, x: Value, time: Value): Value {
  const { b } = s;
  const shift = b.unsqueeze(linear(s, time, x.shape[1] ?? 1), [2, 3]);
  return b.add(rowsLike(b, x, shift), rowsLike(b, shift, x));
}

/**
 * diffusers' `Upsample2D`: each pixel twice along both axes, then a 3x3 convolution. `size` [H, W] is that or one less:
 * where a size was odd on the way down, the last row or column is dropped (what nearest interpolation to it does).
 */
export function upsample(
  s: WeightScope,
  x: Value,
  size: readonly [number, number],
): Value {
  const { b } = s;
  const [, channels = 1, height = 1, width = 1] = x.shape;
  if (size[0] === 2 * height && size[1] === 2 * width) return upsampleByParity(s.at("conv"), x);
  let wide = b.upsampleNearest(x, 2);
  for (const [i, end] of size.entries()) {
    const axis = i + 2;
    if (wide.shape[axis] !== end) wide = b.slice(wide, { axis, start: 0, end });
  }
  return conv2d(s.at("conv"), wide, { out: channels, kernel: 3 });
}

/**
 * Enlargement and convolution as four 2x2 convolutions of the small image, one for each parity of output row and
 * column: three neighbours in the large image are two pixels of the small one, so the taps that fall on the same pixel
 * are added beforehand. 4/9 of the products (docs/performance.md).
 */
function upsampleByParity(s: WeightScope, x: Value): Value {
  const { b } = s;
  const channels = x.shape[1] ?? 1;
  const weight = s.get("weight", [channels, channels, 3, 3]);
  const bias = s.get("bias", [channels]);
  const taps = b.reshape(weight, [channels ** 2, 9]);
  const parts = PARITIES.map(([row, column]) => {
    const folded = b.matMul(
      taps,
      b.table(foldedTaps(row, column), { dtype: s.dtype, shape: [9, 4] }),
    );
    const kernel = b.reshape(folded, [channels, channels, 2, 2]);
    return b.conv2d(x, kernel, { bias, padding: [1 - row, 1 - column, row, column] });
  });
  return b.depthToSpace(b.concat(parts, 1), 2);
}

const PARITIES = [[0, 0], [0, 1], [1, 0], [1, 1]] as const;

/** On which of two small pixels each of three taps falls, by the parity of the output position. */
const FALLS_ON = [[0, 1, 1], [0, 0, 1]] as const;

/** [9, 4]: 1 where a tap of a 3x3 kernel falls on a tap of the 2x2 one. */
function foldedTaps(row: 0 | 1, column: 0 | 1): readonly number[] {
  return FALLS_ON[row].flatMap((r) =>
    FALLS_ON[column].flatMap((c) => [0, 1, 2, 3].map((at) => at === 2 * r + c ? 1 : 0))
  );
}
