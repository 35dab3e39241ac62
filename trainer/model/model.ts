import type { Decoder, Denoiser, PromptEncoder } from "../batch/mod.ts";
import type { Float32Tensor, Parameters } from "../tensors.ts";

/** A denoiser with one set of LoRA weights. */
export interface AdaptedDenoiser extends Denoiser {
  /** Replaces the weights, all of them. Calls made before still see the old ones. */
  update(parameters: Parameters): Promise<void>;
  /** Frees the weights. */
  release(): Promise<void>;
}

/** Size of latents. */
export interface LatentSize {
  readonly height: number;
  readonly width: number;
}

/** A frozen text-to-image model that LoRA weights can be put on. */
export interface Model {
  readonly prompts: PromptEncoder;
  readonly decoder: Decoder;
  readonly latentChannels: number;
  /**
   * Mean and then logarithm of the variance of the latents of images [N, 3, F·H, F·W] in [0, 1]: [N, 2·channels, H, W],
   * neither shifted nor scaled. Throws `WeightsError` where the model's files hold no encoder.
   */
  encode(images: Float32Tensor): Promise<Float32Tensor>;
  /** sha256 (hex) over the weights of all parts. */
  digest(): Promise<string>;
  /** New LoRA weights that change nothing yet, a function of `seed` alone. */
  initialParameters(seed: number): Parameters;
  /** The denoiser with these weights, their effect times `scale` (default 1; 0: the frozen model). */
  adapt(parameters: Parameters, options?: { readonly scale?: number }): Promise<AdaptedDenoiser>;
  /** Frees sessions. The engine they ran in stays open. */
  dispose(): Promise<void>;
}
