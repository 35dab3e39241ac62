import { float32 } from "../../autodiff/mod.ts";
import { assertFinite } from "../../runtime/mod.ts";
import type { Evaluation, RewardScores, RewardSource } from "../batch/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import { rewardPrompt } from "../prompt_columns.ts";
import { type Combination, combined, doubts } from "./combine.ts";
import type { RewardTerm } from "./run_config.ts";
import { UnavailableError } from "./run_errors.ts";

/** What a reward answers for a batch. */
export interface RewardAnswer {
  /** One per image, in the reward's own units. */
  readonly scores: Float32Array;
  /** d score / d image of each image, the images' shape; there when asked for. */
  readonly gradient?: Float32Tensor;
  /** sha256 of the weights that answered. Default: the client's. */
  readonly digest?: string;
}

/** A reward as the trainer knows it. Images are [B, 3, H, W]. */
export interface RewardClient {
  /** Of the weights that answered last, like `digest`: they may change under the run. */
  readonly direction: "maximise" | "minimise";
  /** sha256 of its weights. */
  readonly digest: string;
  /** Throws `RewardUnavailableError` for a passing fault. */
  score(
    images: Float32Tensor,
    prompts: readonly string[],
    options: { readonly gradient: boolean; readonly signal?: AbortSignal | undefined },
  ): Promise<RewardAnswer>;
  /**
   * Resolves when the reward says that it is there, which one that computes can. Throws `RewardUnavailableError` where it
   * is not. Absent where there is nothing to ask.
   */
  ping?(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** A reward does not answer, not in time, or nonsense: worth trying again. */
export class RewardUnavailableError extends UnavailableError {
  override readonly name: string = "RewardUnavailableError";
}

/** What answers is not the reward that is wanted: none of its name, or with other weights. It may come back. */
export class RewardRefusedError extends RewardUnavailableError {
  override readonly name = "RewardRefusedError";
}

/** A connected reward with its weight. */
export interface ConnectedTerm {
  readonly term: RewardTerm;
  readonly client: RewardClient;
}

/**
 * The loss of a mixture: the mean over images of minus their worth (`combined`): by default Σ wᵢ sᵢ, where sᵢ is negated for
 * rewards to be minimised, so that a positive weight always improves its reward. Services are asked concurrently; sums are
 * in the mixture's order. Each reward reads prompts in its own way (`rewardPrompt`).
 * Answers of the wrong shape or with NaN or infinity are `RewardUnavailableError`s naming reward and tensor.
 */
export class RewardMixture implements RewardSource {
  readonly #terms: readonly ConnectedTerm[];
  readonly #combination: Combination;

  constructor(
    terms: readonly ConnectedTerm[],
    { combine = "sum" }: { readonly combine?: Combination } = {},
  ) {
    this.#terms = terms;
    this.#combination = combine;
  }

  /** Scores without gradient, by the terms' names. */
  async score(
    images: Float32Tensor,
    prompts: readonly string[],
    { signal }: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<Readonly<Record<string, RewardScores>>> {
    const answers = await this.#ask(images, prompts, { gradient: false, signal });
    return Object.fromEntries(
      answers.map(({ term, client, answer }) => [
        term.name,
        { perImage: [...answer.scores], digest: answer.digest ?? client.digest },
      ]),
    );
  }

  async evaluate(
    images: Float32Tensor,
    prompts: readonly string[],
    { signal }: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<Evaluation> {
    const answers = await this.#ask(images, prompts, { gradient: true, signal });
    const sum = new Float64Array(images.data.length);
    const rewards: Record<string, RewardScores> = {};
    const counted = answers.map(({ term, client: { direction }, answer: { scores } }) => ({
      ...term,
      scores,
      direction,
    }));
    const { perImage, slopes } = combined(counted, this.#combination);
    const doubt = doubts(counted, perImage);
    const loss = -perImage.reduce((a, b) => a + b, 0) / prompts.length;
    const size = images.data.length / prompts.length;
    for (const [j, { term, client, answer }] of answers.entries()) {
      const { scores, gradient, digest = client.digest } = answer;
      rewards[term.name] = { perImage: [...scores], digest };
      if (term.weight === 0) continue;
      if (gradient?.shape.join() !== images.shape.join()) {
        throw new RewardUnavailableError(
          `Reward ${term.name} answered a gradient of shape [${gradient?.shape ?? "none"}], ` +
            `expected [${images.shape}]`,
        );
      }
      assertSound(`gradient of reward ${term.name}`, gradient);
      for (const [image, slope] of (slopes[j] ?? []).entries()) {
        const factor = -slope / prompts.length;
        if (factor === 0) continue;
        for (let i = image * size; i < (image + 1) * size; i++) {
          sum[i] = (sum[i] ?? 0) + factor * (gradient.data[i] ?? 0);
        }
      }
    }
    return {
      loss,
      gradient: float32(Float32Array.from(sum), images.shape),
      ...(doubt && { doubt }),
      rewards,
    };
  }

  async #ask(
    images: Float32Tensor,
    prompts: readonly string[],
    { gradient, signal }: { readonly gradient: boolean; readonly signal: AbortSignal | undefined },
  ): Promise<readonly (ConnectedTerm & { readonly answer: RewardAnswer })[]> {
    return await Promise.all(this.#terms.map(async ({ term, client }) => {
      const read = prompts.map((line) => rewardPrompt(line, term, `rewards.${term.name}`));
      const answer = await client.score(images, read, {
        gradient: gradient && term.weight !== 0,
        signal,
      });
      if (answer.scores.length !== prompts.length) {
        throw new RewardUnavailableError(
          `Reward ${term.name} answered ${answer.scores.length} scores for ${prompts.length} images`,
        );
      }
      assertSound(`scores of reward ${term.name}`, float32(answer.scores));
      return { term, client, answer };
    }));
  }
}

function assertSound(name: string, tensor: Float32Tensor): void {
  try {
    assertFinite(name, tensor);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new RewardUnavailableError(message, { cause });
  }
}
