import type { Precision } from "../../../compile/mod.ts";
import { loadLora, scaledTensors } from "../../../models/lora/mod.ts";
import { openSafetensors } from "../../../models/weights/mod.ts";
import { openEngine, type Provider } from "../../../runtime/mod.ts";
import {
  defaultMemoryLimit,
  draw,
  encodePng,
  type Float32Tensor,
  openPipeline,
  pictureNote,
  readRunPipeline,
  type SamplerKind,
  type SamplerOptions,
} from "../../../trainer/mod.ts";
import { UsageError } from "../command.ts";

/** A picture to draw. */
export interface ImageRequest {
  readonly prompt: string;
  readonly seed: number;
}

/** A drawn picture. */
export interface DrawnImage extends ImageRequest {
  /** A PNG file's bytes. */
  readonly png: Uint8Array;
}

/** How pictures are drawn in this process. */
export interface LocalOptions {
  /** Folder of a diffusers pipeline. */
  readonly model: string;
  /** LoRA file or folder; absent: the model as it is. */
  readonly lora?: string | undefined;
  readonly loraScale: number;
  /** Absent: the kind of sampler and the guidance that go with the model. */
  readonly sampler: Omit<SamplerOptions, "kind"> & { readonly kind: SamplerKind | undefined };
  readonly guidance: number | undefined;
  /** Pixels; absent: the size that the model was trained on. */
  readonly height?: number | undefined;
  readonly width?: number | undefined;
  /** The same in latents, as a run's configuration has it. */
  readonly latentHeight?: number | undefined;
  readonly latentWidth?: number | undefined;
  /** "FILE#NAME" of a tensor [images, channels, height, width] in a safetensors file: the noise to start from. */
  readonly latents?: string | undefined;
  readonly provider?: Provider | undefined;
  /** What the U-Net and the text encoders compute in. */
  readonly precision?: Precision | undefined;
  readonly threads?: number | undefined;
  /** Told what there is to say of the prompts. */
  readonly onRemark: (remark: string) => void;
  /** GiB that the model's process should stay within; absent: as a run's. */
  readonly memoryLimit?: number | undefined;
  readonly signal: AbortSignal;
}

/** Draws pictures with a model and a LoRA in folders, without a service; the model runs in a child process. */
export async function* localImages(
  requests: readonly ImageRequest[],
  options: LocalOptions,
): AsyncGenerator<DrawnImage> {
  const { loraScale, provider, precision, threads, signal } = options;
  const { memoryLimit = await defaultMemoryLimit(provider) } = options;
  const read = await readRunPipeline(options.model);
  const { pipeline, channels, parts, defaults } = read;
  const sampler = { ...options.sampler, kind: options.sampler.kind ?? defaults.samplerKind };
  const guidance = options.guidance ?? defaults.guidanceScale;
  for (const remark of read.remarks(sampler.kind)) options.onRemark(remark);
  const lora = options.lora === undefined || loraScale === 0
    ? {}
    : (await loadLora(options.lora, parts)).adapters;
  const denoiserLora = lora.unet ?? lora.transformer;
  const initial = options.latents === undefined ? undefined : await readLatents(options.latents, {
    images: requests.length,
    channels,
  });
  const side = (axis: "height" | "width") => {
    const i = axis === "height" ? 0 : 1;
    const factor = read.imageSize({ height: 1, width: 1 })[axis];
    const own = axis === "height" ? options.latentHeight : options.latentWidth;
    const size = latentSide(options[axis], { axis, factor }) ?? own ?? initial?.shape[2 + i] ??
      read.sampleSize?.[axis];
    if (size === undefined) {
      throw new UsageError(`Option --${axis} is missing, and the U-Net names no sample_size`);
    }
    if (initial !== undefined && initial.shape[2 + i] !== size) {
      throw new UsageError(
        `Option --latents has ${axis} ${initial.shape[2 + i]}, expected ${size} as --${axis} says`,
      );
    }
    return size;
  };
  const latents = { channels, height: side("height"), width: side("width") };
  const scheduler = read.scheduler(latents);
  const engine = await openEngine({ isolation: "child", name: options.model });
  try {
    const model = openPipeline(pipeline, engine, {
      lora: denoiserLora?.changes ?? [],
      textAdapters: [lora.text_encoder, lora.text_encoder_2].map((adapter) =>
        adapter && { ...adapter, tensors: scaledTensors(adapter.tensors, loraScale) }
      ),
      precision,
      session: {
        ...(provider !== undefined && { provider }),
        ...(threads !== undefined && { intraOpNumThreads: threads }),
      },
      limits: { memory: memoryLimit * 2 ** 30 },
    });
    const denoiser = await model.adapt(denoiserLora?.tensors ?? {}, { scale: loraScale });
    const remark = model.prompts.remark?.([...new Set(requests.map(({ prompt }) => prompt))]);
    if (remark !== undefined) options.onRemark(remark);
    const networks = { prompts: model.prompts, decoder: model.decoder, denoiser };
    const drawing = { sampler, scheduler, guidance, latents, initial, signal };
    for await (const { requests: part, images } of draw(networks, requests, drawing)) {
      for (const [i, { prompt, seed }] of part.entries()) {
        const [, , height = 0, width = 0] = images.shape;
        const note = pictureNote({
          ...{ prompt, seed, sampler, guidance, height, width, model: options.model },
          lora: options.lora === undefined ? undefined : { name: options.lora, scale: loraScale },
        });
        yield { prompt, seed, png: await encodePng(images, i, note) };
      }
    }
  } finally {
    await engine.close();
  }
}

function latentSide(
  pixels: number | undefined,
  { axis, factor }: { readonly axis: string; readonly factor: number },
): number | undefined {
  if (pixels === undefined || pixels % factor === 0) return pixels && pixels / factor;
  throw new UsageError(
    `Option --${axis} is ${pixels}, expected a multiple of ${factor}: a latent of this VAE is ` +
      `${factor}x${factor} pixels`,
  );
}

async function readLatents(
  where: string,
  { images, channels }: { readonly images: number; readonly channels: number },
): Promise<Float32Tensor> {
  const at = where.lastIndexOf("#");
  if (at <= 0) {
    throw new UsageError(`Option --latents is "${where}", expected FILE.safetensors#TENSOR`);
  }
  const name = where.slice(at + 1);
  const file = openSafetensors(where.slice(0, at));
  if (!file.tensors.has(name)) {
    throw new UsageError(
      `Option --latents names tensor "${name}", expected one of ${
        [...file.tensors.keys()].slice(0, 10).join(", ")
      }`,
    );
  }
  const tensor = await file.readFloat32(name);
  const { shape } = tensor;
  if (shape.length === 4 && shape[0] === images && shape[1] === channels) return tensor;
  throw new UsageError(
    `Option --latents has shape [${shape}], expected [${images}, ${channels}, height, width]: one ` +
      "row for each image, the images of a prompt one after the other",
  );
}
