import type { Float32Tensor, Parameters } from "../tensors.ts";

/**
 * What a denoiser reads besides latents and timesteps, batch first, by its graph's input names: for Stable Diffusion
 * "encoder_hidden_states" [N, tokens, width]; SDXL adds "text_embeds" [N, width] and "time_ids" [N, 6], a latent
 * consistency model "timestep_cond" [N, width].
 */
export type Conditioning = Readonly<Record<string, Float32Tensor>>;

/** Independent inputs of a denoiser, each of which it sees under one or several conditionings. */
export interface DenoiserRows {
  /** Latents, [N, C, H, W]. */
  readonly x: Float32Tensor;
  /** Training timestep of each row. */
  readonly timesteps: readonly number[];
  /** The branches of guidance: what each conditions the N rows on. */
  readonly branches: readonly Conditioning[];
}

/**
 * How a model takes the scale w of guidance. "classifier-free": o_u + w (o_c - o_u), off at 1. "excess": o_c +
 * w (o_c - o_u), off at 0 (Z-Image). "embedded": the network reads w and answers guided, in one branch (FLUX.1,
 * latent consistency models). "none":
 * it was distilled to need none (FLUX.2 Klein's 4 steps, Z-Image Turbo's at 0).
 */
export type GuidanceKind = "classifier-free" | "excess" | "embedded" | "none";

/** A denoiser with trained parameters. */
export interface Denoiser {
  /** Default: "classifier-free". */
  readonly guidance?: GuidanceKind;
  /** What it predicts (noise, v or the clean sample) in each branch, the shape of `x` each. */
  predict(rows: DenoiserRows): Promise<readonly Float32Tensor[]>;
  /**
   * Vector-Jacobian product at each row with the cotangent of each branch (the shape of `x`): summed over rows and
   * branches for the parameters, row by row for `x`, which is there when `input` asks for it.
   */
  vjp(
    rows: DenoiserRows,
    cotangents: readonly Float32Tensor[],
    options: { readonly input: boolean },
  ): Promise<{ readonly parameters: Parameters; readonly x?: Float32Tensor }>;
}

/** A decoder of latents [N, C, H, W] into images [N, 3, F·H, F·W], RGB, nominally in [0, 1], never clamped. */
export interface Decoder {
  decode(latents: Float32Tensor): Promise<Float32Tensor>;
  /** d L / d latents from d L / d image. */
  vjp(latents: Float32Tensor, cotangent: Float32Tensor): Promise<Float32Tensor>;
}

/** For what images prompts are encoded. */
export interface PromptOptions {
  /** Of the latents. */
  readonly height: number;
  readonly width: number;
  /** What images should not show, one for each prompt: the unconditional branch. Default: nothing, "". */
  readonly negative?: readonly string[] | undefined;
  /** The scale of guidance that a network trained to apply it by itself reads. Default: 3.5 (FLUX.1-dev), 8.5 (LCM). */
  readonly embeddedGuidance?: number | undefined;
}

/** A text encoder. */
export interface PromptEncoder {
  /** Of each prompt, and of none or the negative ones. */
  encode(
    prompts: readonly string[],
    options: PromptOptions,
  ): Promise<{ readonly conditional: Conditioning; readonly unconditional: Conditioning }>;
  /**
   * Encodes prompts ahead, and none, so that `encode` finds them and what encodes them can be freed meanwhile; tells
   * how many are done. Absent: it would save nothing.
   */
  prepare?(
    prompts: readonly string[],
    onProgress?: (done: number) => void | Promise<void>,
  ): Promise<void>;
  /** What to say of prompts that are longer than it reads; undefined where none is. Absent: none ever is. */
  remark?(prompts: readonly string[]): string | undefined;
}

/** The networks of a text-to-image model. */
export interface Networks {
  readonly prompts: PromptEncoder;
  readonly denoiser: Denoiser;
  readonly decoder: Decoder;
}
