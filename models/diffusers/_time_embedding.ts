import type { Builder, Value } from "../../autodiff/mod.ts";
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
  const reduced = withinOneTurn(b, angles);
  const parts = [b.sin(reduced), b.cos(reduced)];
  const joined = b.concat(flipSinToCos ? parts.reverse() : parts, 1);
  return b.cast(width % 2 === 0 ? joined : b.pad(joined, { pads: [0, 0, 0, 1] }), dtype);
}

/** 2π, of which a first part has 8 bits: its product with a whole number of turns is exact. */
const TURN = [6.28125, 2 * Math.PI - 6.28125] as const;

/**
 * Angles less whole turns, in [-π, π]: farther out WebGPU's sine and cosine are 1e-4 and more off. Exact to float32's last
 * bit up to 2^14 turns.
 */
function withinOneTurn(b: Builder, angles: Value): Value {
  const turns = b.round(b.mul(angles, 1 / (2 * Math.PI)));
  return TURN.reduce((rest, part) => b.sub(rest, b.mul(turns, part)), angles);
}

/** diffusers' `TimestepEmbedding`: two linear layers with silu between them, [N, out] of x [N, in]. */
export function embed(s: WeightScope, x: Value, out: number): Value {
  return linear(s.at("linear_2"), s.b.silu(linear(s.at("linear_1"), x, out)), out);
}
