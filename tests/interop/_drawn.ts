import assert from "node:assert/strict";
import sharp from "sharp";
import { float32, type TensorOf } from "../../autodiff/mod.ts";
import { localImages } from "../../services/cli/sample/mod.ts";
import type { SamplerKind } from "../../trainer/mod.ts";

/** What `drtune sample` is to draw. */
export interface Drawing {
  readonly model: string;
  readonly prompt: string;
  /** "file#name" of the noise, one image's. */
  readonly latents: string;
  readonly steps: number;
  readonly guidance: number;
  /** Default: the model's. */
  readonly sampler?: SamplerKind | undefined;
  readonly lora?: string | undefined;
  /** Default 1. */
  readonly scale?: number | undefined;
}

/** The picture that `drtune sample` draws, [1, 3, H, W] in 0..1. */
export async function drawn(
  { model, prompt, latents, steps, guidance, sampler, lora, scale = 1 }: Drawing,
): Promise<TensorOf<"float32">> {
  const pictures = localImages([{ prompt, seed: 0 }], {
    model,
    latents,
    guidance,
    lora,
    loraScale: scale,
    sampler: { kind: sampler, steps },
    onRemark: () => {},
    signal: new AbortController().signal,
  });
  const { value } = await pictures.next();
  await pictures.return(undefined);
  assert.ok(value);
  const { data, info } = await sharp(value.png).raw().toBuffer({ resolveWithObject: true });
  const size = info.width * info.height;
  return float32(
    Float32Array.from(
      { length: 3 * size },
      (_, i) => (data[(i % size) * 3 + Math.floor(i / size)] ?? 0) / 255,
    ),
    [1, 3, info.height, info.width],
  );
}

/** Mean absolute difference of two pictures. */
export function distance(a: TensorOf<"float32">, b: TensorOf<"float32">): number {
  assert.deepEqual([...a.shape], [...b.shape]);
  return a.data.reduce((sum, v, i) => sum + Math.abs(v - (b.data[i] ?? NaN)), 0) / a.data.length;
}
