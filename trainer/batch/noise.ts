import { float32, sizeOf } from "../../autodiff/mod.ts";
import type { Random } from "../../models/random/mod.ts";
import { type Purpose, randomStream } from "../random.ts";
import type { Float32Tensor } from "../tensors.ts";

/** Everything random in one batch of images. */
export interface NoiseSource {
  /** The latents sampling starts from, [B, C, H, W], standard normal. */
  initial(): Float32Tensor;
  /** The noise of sampling step `index` (0 is the noisiest), flat. */
  step(index: number): Float32Array;
  /** The noise of redraw `index`, flat. */
  redraw(index: number): Float32Array;
}

/** Which random numbers an image gets. */
export interface ImageSeed {
  readonly seed: number;
  /** 0 for images outside training. */
  readonly iteration: number;
  /** Position in the iteration. */
  readonly image: number;
}

/** Noise of a batch, drawn image by image, so that an image does not depend on the batch it is in. */
export function seededNoise(
  images: readonly ImageSeed[],
  latents: { readonly channels: number; readonly height: number; readonly width: number },
): NoiseSource {
  const shape = [latents.channels, latents.height, latents.width];
  const size = sizeOf(shape);
  const draw = (purpose: Purpose, step = 0) => {
    const data = new Float32Array(images.length * size);
    images.forEach(({ seed, iteration, image }, i) => {
      const random: Random = randomStream(seed, purpose, { iteration, image, step });
      data.set(random.normals(size), i * size);
    });
    return data;
  };
  return {
    initial: () => float32(draw("latents"), [images.length, ...shape]),
    step: (index) => draw("noise", index),
    redraw: (index) => draw("redraw", index),
  };
}
