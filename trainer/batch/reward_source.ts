import type { Float32Tensor } from "../tensors.ts";

/** One reward of a batch, in its own units. */
export interface RewardScores {
  readonly perImage: readonly number[];
  /** sha256 of the weights that answered. */
  readonly digest: string;
}

/** What a batch of images is worth. */
export interface Evaluation {
  /** The number that training minimises. */
  readonly loss: number;
  /** d loss / d images, the images' shape. */
  readonly gradient: Float32Tensor;
  /**
   * Of each image, -1 to 1: how much more often it is better than another of the batch by what is trained than by the rewards
   * that are measured only. Absent where nothing is.
   */
  readonly doubt?: readonly number[];
  /** By the reward's name in the mixture. */
  readonly rewards: Readonly<Record<string, RewardScores>>;
}

/** Where gradients of images come from: [B, 3, H, W], RGB, nominally in [0, 1], not clamped; a prompt per image. */
export interface RewardSource {
  evaluate(
    images: Float32Tensor,
    prompts: readonly string[],
    options?: { readonly signal?: AbortSignal | undefined },
  ): Promise<Evaluation>;
}
