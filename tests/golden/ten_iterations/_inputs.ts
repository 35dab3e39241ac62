import { float32 } from "../../../autodiff/mod.ts";
import { openRunModel, type Parameters, parseRunConfig } from "../../../trainer/mod.ts";
import { seededNoise } from "../../../trainer/batch/mod.ts";
import { CONFIG } from "./_run.ts";

/** What a run draws from its seed and PyTorch cannot draw: its first LoRA, and the noise of each image. */
export async function seededInputs(): Promise<Parameters> {
  const root = new URL("..", import.meta.url).pathname;
  const opened = await openRunModel(parseRunConfig(CONFIG), { root });
  const out: Record<string, Parameters[string]> = {};
  try {
    const { model, latents } = opened;
    for (const [name, tensor] of Object.entries(model.initialParameters(CONFIG.seed))) {
      out[`lora.${name}`] = tensor;
    }
    const shape = [1, latents.channels, latents.height, latents.width];
    for (let iteration = 1; iteration <= CONFIG.iterations; iteration++) {
      for (let image = 0; image < CONFIG.batch.accumulation; image++) {
        const noise = seededNoise([{ seed: CONFIG.seed, iteration, image }], latents);
        out[`${iteration}.${image}.x_T`] = noise.initial();
        for (let step = 0; step < CONFIG.sampler.steps; step++) {
          out[`${iteration}.${image}.noise.${step}`] = float32(noise.step(step), shape);
        }
      }
    }
  } finally {
    await opened.release();
  }
  return out;
}
