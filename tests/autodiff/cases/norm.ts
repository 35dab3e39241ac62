import { type Builder, float, int, type Value } from "../../../autodiff/mod.ts";
import { type OpCase, opCase } from "./_case.ts";

const layerNorm = (axis: number, scaleShape: readonly number[]) =>
  opCase(
    { x: [2, 3, 4], scale: scaleShape, bias: scaleShape },
    (b, { x, scale, bias }) =>
      b.call("LayerNormalization", [x, scale, bias], { axis: int(axis), epsilon: float(1e-3) }),
  );

/** Layer normalization of the last axis by its definition, with mean and inverse standard deviation. */
function layerNormAndStatistics(b: Builder, x: Value, scale: Value): readonly Value[] {
  const mean = b.mean(x, { axes: [2] });
  const centred = b.sub(x, mean);
  const std = b.sqrt(b.add(b.mean(b.mul(centred, centred), { axes: [2] }), Math.fround(1e-3)));
  return [b.mul(b.div(centred, std), scale), mean, b.div(1, std)];
}

const groupNorm = (groups: number, spatial: readonly number[]) =>
  opCase(
    { x: [2, 6, ...spatial], scale: [6], bias: [6] },
    (b, { x, scale, bias }) => b.groupNorm(x, { groups, scale, bias, epsilon: 1e-3 }),
  );

/** What is in the forward pass of the gradient is an operator of its own. */
const recomputed = (groups: number, spatial: readonly number[], silu: boolean) =>
  opCase(
    { x: [2, 6, ...spatial], scale: [6], bias: [6] },
    (b, { x, scale, bias }) => b.groupNorm(x, { groups, scale, bias, epsilon: 1e-3, silu }),
    {
      twin: (b, { x, scale, bias }) => {
        const y = b.groupNorm(x, { groups, scale, bias, epsilon: 1e-3 });
        return silu ? b.silu(y) : y;
      },
      policy: { normalizationMemory: 0 },
    },
  );

/** Instance normalization by its definition. */
function instanceNorm(b: Builder, x: Value, scale: Value, bias: Value): Value {
  const axes = x.shape.flatMap((_, i) => i < 2 ? [] : [i]);
  const wide = (v: Value) => b.reshape(v, [v.shape[0] ?? 1, ...axes.map(() => 1)]);
  const centred = b.sub(x, b.mean(x, { axes }));
  const std = b.sqrt(b.add(b.mean(b.mul(centred, centred), { axes }), Math.fround(1e-3)));
  return b.add(b.mul(b.div(centred, std), wide(scale)), wide(bias));
}

const instance = (spatial: readonly number[]) =>
  opCase(
    { x: [2, 3, ...spatial], scale: [3], bias: [3] },
    (b, { x, scale, bias }) =>
      b.call("InstanceNormalization", [x, scale, bias], { epsilon: float(1e-3) }),
    { twin: (b, { x, scale, bias }) => instanceNorm(b, x, scale, bias) },
  );

const batchNorm = (spatial: readonly number[]) =>
  opCase(
    {
      x: [2, 3, ...spatial],
      scale: [3],
      bias: [3],
      mean: [3],
      variance: { shape: [3], low: 0.5, high: 2 },
    },
    (b, { x, scale, bias, mean, variance }) =>
      b.call("BatchNormalization", [x, scale, bias, mean, variance], { epsilon: float(1e-2) }),
  );

/** Cases of normalizations. */
export const NORM_CASES = {
  LayerNormalization: {
    "last axis": layerNorm(-1, [4]),
    "last two axes": layerNorm(1, [3, 4]),
    "all axes": layerNorm(0, [2, 3, 4]),
    "default axis and epsilon, no bias": opCase(
      { x: [2, 3, 4], scale: [4] },
      (b, { x, scale }) => b.call("LayerNormalization", [x, scale]),
    ),
    "statistics are results as well": opCase(
      { x: [2, 3, 4], scale: [4] },
      (b, { x, scale }) => b.op("LayerNormalization", [x, scale], { epsilon: float(1e-3) }),
      { twin: (b, { x, scale }) => layerNormAndStatistics(b, x, scale) },
    ),
    "statistics alone are results": opCase(
      { x: [2, 3, 4], scale: [4] },
      (b, { x, scale }) =>
        b.op("LayerNormalization", [x, scale], { epsilon: float(1e-3) }).slice(1),
      { wrt: ["x"], twin: (b, { x, scale }) => layerNormAndStatistics(b, x, scale).slice(1) },
    ),
  },
  GroupNormalization: {
    "two groups": groupNorm(2, [3, 2]),
    "one group": groupNorm(1, [3, 2]),
    "a group per channel": groupNorm(6, [3, 2]),
    "one spatial axis": groupNorm(3, [4]),
    "three spatial axes": groupNorm(3, [2, 2, 3]),
    "recomputed": recomputed(2, [3, 2], false),
    "recomputed with silu": recomputed(3, [3, 2], true),
    "recomputed with silu, a group per channel": recomputed(6, [4], true),
  },
  InstanceNormalization: {
    "one spatial axis": instance([5]),
    "two spatial axes": instance([3, 4]),
  },
  BatchNormalization: {
    "no spatial axis": batchNorm([]),
    "two spatial axes": batchNorm([2, 3]),
  },
} satisfies Record<string, Record<string, OpCase>>;
