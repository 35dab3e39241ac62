import { float32 } from "../../autodiff/mod.ts";
import type { NoiseLevel } from "../samplers/mod.ts";
import { batchOf, concatBatch, type Float32Tensor, type Parameters } from "../tensors.ts";
import type { Networks } from "./networks.ts";

/** A picture that a model is held to, with what is drawn of it anew each time. */
export interface PretrainingRow {
  readonly caption: string;
  /** Latents of the picture, [1, C, H, W]. */
  readonly clean: Float32Tensor;
  /** Standard normal, the same shape. */
  readonly noise: Float32Tensor;
  readonly level: NoiseLevel;
}

/**
 * The loss that diffusion models are trained with: the mean over rows and elements of the squared difference of what the
 * denoiser predicts of noised latents, without guidance, and the right answer (`NoiseLevel.target`); and its gradient. It is
 * ReFL's pretraining loss (arXiv 2304.05977, algorithm 1).
 */
export async function pretrainBatch(
  { prompts, denoiser }: Pick<Networks, "prompts" | "denoiser">,
  { rows, embeddedGuidance }: {
    readonly rows: readonly PretrainingRow[];
    /** Of networks that read a scale of guidance. */
    readonly embeddedGuidance?: number | undefined;
  },
): Promise<{ readonly loss: number; readonly gradients: Parameters }> {
  const mixed = (
    factors: (level: NoiseLevel) => { readonly clean: number; readonly noise: number },
  ) =>
    concatBatch(rows.map(({ clean, noise, level }) => {
      const by = factors(level);
      const data = clean.data.map((v, i) => by.clean * v + by.noise * (noise.data[i] ?? 0));
      return float32(data, clean.shape);
    }));
  const x = mixed(({ alpha, sigma }) => ({ clean: alpha, noise: sigma }));
  const target = mixed(({ target }) => target);
  const [, , height = 1, width = 1] = x.shape;
  const captions = rows.map(({ caption }) => caption);
  const { conditional } = await prompts.encode(captions, { height, width, embeddedGuidance });
  const timesteps = rows.map(({ level }) => level.timestep);
  const input = { x, timesteps, branches: [conditional] };
  const [output] = await denoiser.predict(input);
  if (output === undefined || batchOf(output) !== rows.length) {
    throw new TypeError("The denoiser predicted nothing");
  }
  let loss = 0;
  const cotangent = output.data.map((o, i) => {
    const difference = o - (target.data[i] ?? NaN);
    loss += difference ** 2 / output.data.length;
    return 2 * difference / output.data.length;
  });
  const { parameters } = await denoiser.vjp(input, [float32(cotangent, output.shape)], {
    input: false,
  });
  return { loss, gradients: parameters };
}
