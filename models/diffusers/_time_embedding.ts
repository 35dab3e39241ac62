import type { Value } from "../../autodiff/mod.ts";
import { linear } from "../nn.ts";
import type { WeightScope } from "../weight_scope.ts";

/**
 * diffusers' `get_timestep_embedding` of t [N]: sines and cosines of t / 10000^(i / (half - shift)), [N, width].
 * The frequencies are rounded to float32 at each step, as PyTorch does, and so is their product with t: near
 * t = 1000 the rounding shows (6e-5).
 */
export function sinusoids(
  { b, dtype }: WeightScope,
  t: Value,
  { width, flipSinToCos, freqShift }: {
    readonly width: number;
    readonly flipSinToCos: boolean;
    readonly freqShift: number;
  },
): Value {
  const half = Math.floor(width / 2);
  const frequencies = Float32Array.from({ length: half }, (_, i) => {
    const exponent = Math.fround(Math.fround(-Math.log(10000)) * i);
    return Math.exp(Math.fround(exponent / (half - freqShift)));
  });
  const angles = b.mul(
    b.reshape(t, [t.shape[0] ?? 1, 1]),
    b.table(frequencies, { dtype: "float32", shape: [1, half] }),
  );
  const parts = [b.sin(angles), b.cos(angles)];
  const joined = b.concat(flipSinToCos ? parts.reverse() : parts, 1);
  return b.cast(width % 2 === 0 ? joined : b.pad(joined, { pads: [0, 0, 0, 1] }), dtype);
}

/** diffusers' `TimestepEmbedding`: two linear layers with silu between them, [N, out] of x [N, in]. */
export function embed(s: WeightScope, x: Value, out: number): Value {
  return linear(s.at("linear_2"), s.b.silu(linear(s.at("linear_1"), x, out)), out);
}
