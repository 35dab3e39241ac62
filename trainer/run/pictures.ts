import { Buffer } from "node:buffer";
import sharp, { type Sharp } from "sharp";
import { withPngText } from "./_png_text.ts";
import { assertFinite } from "../../runtime/mod.ts";
import { makeSampler, type SamplerOptions, type Scheduler } from "../samplers/mod.ts";
import { type Guidance, GuidedDenoiser, type Networks, sample, seededNoise } from "../batch/mod.ts";
import { batchOf, type Float32Tensor, sliceBatch } from "../tensors.ts";

/** An image to draw. */
export interface Request {
  readonly prompt: string;
  readonly seed: number;
}

/** How images are drawn. */
export interface DrawOptions {
  readonly sampler: SamplerOptions;
  readonly scheduler: Scheduler;
  readonly guidance: number;
  readonly latents: { readonly channels: number; readonly height: number; readonly width: number };
  /** Most images at once. Default 8. */
  readonly batch?: number;
  /** What sampling starts from, [images, C, H, W], in place of the seeds' noise. */
  readonly initial?: Float32Tensor | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Draws images, batch by batch: each batch of requests with its images [B, 3, H, W], not clamped. An image is a
 * function of its prompt, its seed and the options, not of the batch it is in. Throws `NumericalError` for one that is not
 * finite, which would pass as black.
 */
export async function* draw(
  networks: Networks,
  requests: readonly Request[],
  { sampler: options, scheduler, guidance, latents, batch = 8, initial, signal }: DrawOptions,
): AsyncGenerator<{ readonly requests: readonly Request[]; readonly images: Float32Tensor }> {
  const sampler = makeSampler(options, scheduler);
  for (let at = 0; at < requests.length; at += batch) {
    const part = requests.slice(at, at + batch);
    const { conditional, unconditional } = await networks.prompts.encode(
      part.map((r) => r.prompt),
      { ...latents, embeddedGuidance: guidance },
    );
    const denoiser = new GuidedDenoiser(networks.denoiser, {
      conditional,
      unconditional,
      guidance: { scale: guidance, gradient: "none" } satisfies Guidance,
    });
    const seeds = part.map(({ seed }) => ({ seed, iteration: 0, image: 0 }));
    const seeded = seededNoise(seeds, latents);
    const noise = initial === undefined
      ? seeded
      : { ...seeded, initial: () => sliceBatch(initial, at, at + part.length) };
    const { x0 } = await sample(denoiser, { sampler, noise, signal });
    const images = await networks.decoder.decode(x0);
    assertFinite("image", images);
    yield { requests: part, images };
  }
}

/** One image of a batch as a PNG file: clamped to [0, 1] and rounded to 8 bits. `note` becomes its text "parameters". */
export async function encodePng(
  images: Float32Tensor,
  index: number,
  note?: string,
): Promise<Buffer> {
  const png = await pixelsOf(images, index).png().toBuffer();
  return note === undefined ? png : withPngText(png, { keyword: "parameters", text: note });
}

/** One image of a batch as a JPEG file of at most `side` pixels. */
export async function encodeThumbnail(
  images: Float32Tensor,
  index: number,
  side: number,
): Promise<Uint8Array> {
  return await pixelsOf(images, index)
    .resize({ width: side, height: side, fit: "inside", withoutEnlargement: true })
    .jpeg({ quality: 90 }).toBuffer();
}

/** One image of a batch, clamped to [0, 1] and rounded to 8 bits. */
function pixelsOf(images: Float32Tensor, index: number): Sharp {
  if (index < 0 || index >= batchOf(images)) throw new RangeError(`No image ${index}`);
  const [, , height = 1, width = 1] = images.shape;
  const { data } = sliceBatch(images, index, index + 1);
  const plane = height * width;
  const pixels = Buffer.alloc(3 * plane);
  for (let p = 0; p < plane; p++) {
    for (let c = 0; c < 3; c++) {
      pixels[3 * p + c] = Math.round(255 * Math.min(1, Math.max(0, data[c * plane + p] ?? 0)));
    }
  }
  return sharp(pixels, { raw: { width, height, channels: 3 } });
}
