import type { TensorOf } from "../autodiff/mod.ts";

/** Whether a larger or a smaller score is better. */
export type Direction = "maximise" | "minimise";

/** A batch of images: float32, shape [B, 3, H, W], RGB in [0, 1] (values outside are allowed, never clamped). */
export type Images = TensorOf<"float32">;

/** What a reward found when it checked its own gradient on load, on a fixed image. */
export interface SelfCheck {
  readonly score: number;
  /** ‖d score / d image‖₂. */
  readonly gradientNorm: number;
  /**
   * How far the change of the score along a random step is from what the gradients at both ends predict, as a share of
   * the change that a step of that length makes. Absent where the gradient is by definition not the derivative, and where
   * nothing could be told.
   */
  readonly relativeError?: number;
  /** Set where the score changes by less than it is rounded by, so that the gradient could not be compared with that. */
  readonly isHidden?: true;
}

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
  /** Tokens of a prompt that are read, begin and end included; what is beyond is cut off. Absent where none is read. */
  readonly promptTokens?: number;
  /** One line: the preprocessing recipe, e.g. "resize shortest 224 bicubic antialias, centre crop, CLIP normalise". */
  readonly preprocessing: string;
  /** How the reward's published package prepares a PNG or JPEG file; see `ScoreOptions.processing`. */
  readonly fileProcessing: "tensor" | "reference";
  /** sha256 hex over all weight files and the options that change the score. */
  readonly digest: string;
  /** Execution provider in use. */
  readonly provider: string;
  /** What was assumed on loading and may be wrong, a sentence each. Absent where there is nothing to say. */
  readonly warnings?: readonly string[];
  /** Absent when the check was switched off. */
  readonly selfCheck?: SelfCheck;
}

/** Scores, and when asked for, d score / d image of each image with respect to itself. */
export interface RewardResult {
  /** float32 [B] in the reward's own units (not negated for "minimise"). */
  readonly scores: Float32Array;
  /** float32, the images' shape. */
  readonly gradient?: Images;
  /** Images whose prompt is longer than `RewardInfo.promptTokens`, ascending. Absent where there is none. */
  readonly truncated?: readonly number[];
  /** sha256 of the weights that answered, from rewards whose weights may change under their caller. */
  readonly digest?: string;
}

/** Options of one call of `Reward.score`. */
export interface ScoreOptions {
  /** Also return the gradient. Default false. */
  readonly gradient?: boolean;
  /** Checked before every run of a session; a run that has started finishes. */
  readonly signal?: AbortSignal;
  /**
   * "tensor" (default): the exact linear map of the float pixels. "reference": what the Python processors make of a
   * PNG or JPEG file; pixels are rounded to 8 bits first and resized in integers, so there is no gradient.
   */
  readonly processing?: "tensor" | "reference";
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
    options?: ScoreOptions,
  ): Promise<RewardResult>;
  /**
   * Further figures of the same images, float32 [B] by name, that are reported and never trained on: "libjpegError"
   * of the JPEG reward. Absent where there are none.
   */
  readonly extras?: (images: Images) => Promise<Readonly<Record<string, Float32Array>>>;
  /** Frees sessions. Safe to call twice. */
  dispose(): Promise<void>;
}
