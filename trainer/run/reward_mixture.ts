import { float32 } from "../../autodiff/mod.ts";
import { assertFinite } from "../../runtime/mod.ts";
import type { Evaluation, RewardScores, RewardSource } from "../step/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import type { RewardTerm } from "./run_config.ts";

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
export class RewardUnavailableError extends Error {
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
 * The loss of a mixture: the mean over images of Σ -wᵢ sᵢ, where sᵢ is negated for rewards to be minimised, so that a
 * positive weight always improves its reward. Services are asked concurrently; sums are in the mixture's order.
 * Answers of the wrong shape or with NaN or infinity are `RewardUnavailableError`s naming reward and tensor.
 */
export class RewardMixture implements RewardSource {
  readonly #terms: readonly ConnectedTerm[];

  constructor(terms: readonly ConnectedTerm[]) {
    this.#terms = terms;
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
    let loss = 0;
    for (const { term, client, answer: { scores, gradient, digest = client.digest } } of answers) {
      rewards[term.name] = { perImage: [...scores], digest };
      const sign = client.direction === "minimise" ? 1 : -1;
      const factor = sign * term.weight / prompts.length;
      if (factor === 0) continue;
      for (const s of scores) loss += factor * s;
      if (gradient?.shape.join() !== images.shape.join()) {
        throw new RewardUnavailableError(
          `Reward ${term.name} answered a gradient of shape [${gradient?.shape ?? "none"}], ` +
            `expected [${images.shape}]`,
        );
      }
      assertSound(`gradient of reward ${term.name}`, gradient);
      gradient.data.forEach((g, i) => sum[i] = (sum[i] ?? 0) + factor * g);
    }
    return { loss, gradient: float32(Float32Array.from(sum), images.shape), rewards };
  }

  async #ask(
    images: Float32Tensor,
    prompts: readonly string[],
    { gradient, signal }: { readonly gradient: boolean; readonly signal: AbortSignal | undefined },
  ): Promise<readonly (ConnectedTerm & { readonly answer: RewardAnswer })[]> {
    return await Promise.all(this.#terms.map(async ({ term, client }) => {
      const answer = await client.score(images, prompts, {
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
