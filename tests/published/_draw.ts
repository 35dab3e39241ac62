import { join } from "node:path";
import { loraParts, readPipeline } from "../../models/diffusers/mod.ts";
import { loadLora } from "../../models/lora/mod.ts";
import { openSafetensors } from "../../models/weights/mod.ts";
import { openEngine } from "../../runtime/mod.ts";
import { draw, parseSchedulerConfig, PipelineModel } from "../../trainer/mod.ts";

/**
 * A picture of "a fox" as `drtune sample --sampler ddim --steps 4 --guidance 3` draws it from latents "x" of a file, with a
 * LoRA's file or without: [3, H, W] in [0, 1], clamped.
 */
export async function drawFox(
  model: string,
  { latents, lora }: { readonly latents: string; readonly lora?: string },
): Promise<Float32Array> {
  const pipeline = await readPipeline(model);
  const initial = await openSafetensors(latents).readFloat32("x");
  const [, channels = 0, height = 0, width = 0] = initial.shape;
  const engine = await openEngine({ isolation: "in-process" });
  try {
    const { unet, text_encoder, text_encoder_2 } = lora === undefined
      ? {}
      : (await loadLora(lora, loraParts(pipeline))).adapters;
    const network = new PipelineModel(pipeline, engine, {
      lora: unet?.changes ?? [],
      textAdapters: [text_encoder, text_encoder_2],
    });
    const denoiser = await network.adapt(unet?.tensors ?? {});
    const drawn = draw(
      { prompts: network.prompts, decoder: network.decoder, denoiser },
      [{ prompt: "a fox", seed: 0 }],
      {
        sampler: { kind: "ddim", steps: 4 },
        scheduler: parseSchedulerConfig(pipeline.scheduler),
        guidance: 3,
        latents: { channels, height, width },
        initial,
        signal: new AbortController().signal,
      },
    );
    for await (const { images } of drawn) {
      return images.data.map((v) => Math.min(Math.max(v, 0), 1));
    }
    throw new Error("Nothing was drawn");
  } finally {
    await engine.close();
  }
}

/** Mean distance from a float32 .npy picture [H, W, 3]. */
export function distanceFromNpy(picture: Float32Array, npy: string): number {
  const bytes = Deno.readFileSync(npy);
  const header = new DataView(bytes.buffer).getUint16(8, true);
  const expected = new Float32Array(bytes.slice(10 + header).buffer);
  const plane = picture.length / 3;
  if (expected.length !== picture.length) throw new RangeError(`${npy} has another size`);
  return expected.reduce(
    (sum, v, i) => sum + Math.abs(v - (picture[(i % 3) * plane + Math.floor(i / 3)] ?? NaN)),
    0,
  ) / expected.length;
}

/** A folder in which everything is a link to another's, but one thing left out. Remove it when done. */
export async function copyBut(folder: string, name: string): Promise<string> {
  const copy = await Deno.makeTempDir();
  for (const entry of Deno.readDirSync(folder)) {
    if (entry.name !== name) await Deno.symlink(join(folder, entry.name), join(copy, entry.name));
  }
  return copy;
}
