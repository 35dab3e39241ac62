import type { TensorOf } from "../autodiff/mod.ts";

/** Whether a larger or a smaller score is better. */
export type Direction = "maximise" | "minimise";

/** A batch of images: float32, shape [B, 3, H, W], RGB in [0, 1] (values outside are allowed, never clamped). */
export type Images = TensorOf<"float32">;

/** Facts about a loaded reward, constant for its life. */
export interface RewardInfo {
  /** Name it is served under, e.g. "symmetry". */
  readonly name: string;
  /** Which registry entry made it: "symmetry", "jpeg", "clip", "aesthetic", "owlvit", "pickscore", "hpsv2", "onnx". */
  readonly kind: string;
  readonly direction: Direction;
  /** Lowest and highest score, ±Infinity where unbounded. */
  readonly range: readonly [number, number];
  /** True when the score depends on the prompt; a prompt is then required. */
  readonly readsPrompt: boolean;
  /** One line: the preprocessing recipe, e.g. "resize shortest 224 bicubic antialias, centre crop, CLIP normalise". */
  readonly preprocessing: string;
  /** sha256 hex over all weight files and the options that change the score. */
  readonly digest: string;
  /** Execution provider in use. */
  readonly provider: string;
}

/** Scores, and when asked for, d score / d image of each image with respect to itself. */
export interface RewardResult {
  /** float32 [B] in the reward's own units (not negated for "minimise"). */
  readonly scores: Float32Array;
  /** float32, the images' shape. */
  readonly gradient?: Images;
}

/** A loaded reward. Score and gradient are of the raw score: the caller applies sign and weight. */
export interface Reward {
  readonly info: RewardInfo;
  /**
   * Scores a batch. `prompts` has one entry per image (ignored when `info.readsPrompt` is false).
   * Throws `RewardInputError` on bad shapes, prompts or non-finite pixels.
   */
  score(
    images: Images,
    prompts: readonly string[],
    options?: { readonly gradient?: boolean; readonly signal?: AbortSignal },
  ): Promise<RewardResult>;
  /** Frees sessions. Safe to call twice. */
  dispose(): Promise<void>;
}
