import { loadSharp } from "../_load_sharp.ts";
import type { Images } from "../reward.ts";
import type { JpegOptions } from "./_jpeg_codec.ts";

/**
 * The JPEG reward as libjpeg itself computes it: mean squared error [B] in [0, 1] units of images rounded to 8 bits,
 * against what decoding their JPEG files gives.
 */
export async function libjpegError(
  { data, shape }: Images,
  { quality, subsampling }: Pick<JpegOptions, "quality" | "subsampling">,
): Promise<Float32Array> {
  const sharp = await loadSharp();
  const [batch = 0, , height = 0, width = 0] = shape;
  const plane = height * width;
  const errors = new Float32Array(batch);
  for (let i = 0; i < batch; i++) {
    const pixels = new Uint8ClampedArray(3 * plane);
    for (let at = 0; at < plane; at++) {
      for (let channel = 0; channel < 3; channel++) {
        pixels[3 * at + channel] = Math.fround(255 * (data[(3 * i + channel) * plane + at] ?? 0));
      }
    }
    const encoded = await sharp(pixels, { raw: { width, height, channels: 3 } })
      .jpeg({ quality, chromaSubsampling: subsampling, mozjpeg: false }).toBuffer();
    const decoded = await sharp(encoded).raw().toBuffer();
    let sum = 0;
    for (let at = 0; at < pixels.length; at++) {
      sum += ((pixels[at] ?? 0) - (decoded[at] ?? 0)) ** 2;
    }
    errors[i] = sum / (255 * 255 * pixels.length);
  }
  return errors;
}
