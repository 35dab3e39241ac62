import { float32, type TensorOf } from "../../autodiff/mod.ts";

/**
 * diffusers' `get_guidance_scale_embedding` of the scale w of guidance, which a latent consistency model reads (Luo et al.,
 * 2310.04378, 4.1): sines, then cosines, of 1000 (w - 1) / 10000^(i / (half - 1)), [rows, width], the same in each row.
 * Angles are rounded to float32 where PyTorch does: at w = 8.5 the rounding shows (2e-4).
 */
export function guidanceEmbedding(
  scale: number,
  { rows, width }: { readonly rows: number; readonly width: number },
): TensorOf<"float32"> {
  const f = Math.fround;
  const half = Math.floor(width / 2);
  const step = f(f(Math.log(10000)) / (half - 1));
  const t = f(f(scale - 1) * 1000);
  const data = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < half; i++) {
      const angle = f(t * f(Math.exp(f(-i * step))));
      data[row * width + i] = Math.sin(angle);
      data[row * width + half + i] = Math.cos(angle);
    }
  }
  return float32(data, [rows, width]);
}
