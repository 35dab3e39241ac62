import { float32, type TensorOf } from "../../autodiff/mod.ts";

/** Width of the time embedding's waves, the same in every family. */
export const TIMESTEP_WIDTH = 256;

/**
 * diffusers' `Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)`: cos(t f_j), then sin(t f_j), with
 * f_j = exp(-j ln(10000) / 128), j = 0..127, of each timestep on the scale of 1000: [N, 256]. The angles are float64:
 * near t = 1000, and at guidance 3500, those of float32 are 1e-4 off, which is nearly all of a float32 network's error.
 */
export function timestepProjection(timesteps: readonly number[]): TensorOf<"float32"> {
  const half = TIMESTEP_WIDTH / 2;
  const data = new Float32Array(timesteps.length * TIMESTEP_WIDTH);
  for (const [row, t] of timesteps.entries()) {
    for (let j = 0; j < half; j++) {
      const angle = t * Math.exp(-Math.log(10000) * j / half);
      data[row * TIMESTEP_WIDTH + j] = Math.cos(angle);
      data[row * TIMESTEP_WIDTH + half + j] = Math.sin(angle);
    }
  }
  return float32(data, [timesteps.length, TIMESTEP_WIDTH]);
}
