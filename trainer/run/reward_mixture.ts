import { float32 } from "../../autodiff/mod.ts";
import type { Evaluation, RewardScores, RewardSource } from "../step/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import type { RewardTerm } from "./run_config.ts";

/** A reward as the trainer knows it. Images are [B, 3, H, W]. */
export interface RewardClient {
  readonly direction: "maximise" | "minimise";
  /** sha256 of its weights. */
  readonly digest: string;
  /** Scores, and d score / d image of each image where asked for. Throws `RewardUnavailableError` for a passing fault. */
  score(
    images: Float32Tensor,
    prompts: readonly string[],
    options: { readonly gradient: boolean; readonly signal?: AbortSignal | undefined },
  ): Promise<{ readonly scores: Float32Array; readonly gradient?: Float32Tensor }>;
  close(): Promise<void>;
}

/** A reward does not answer, or not in time: worth trying again. */
export class RewardUnavailableError extends Error {
  override readonly name = "RewardUnavailableError";
}

/** Connected rewards with their weights. */
export interface ConnectedTerm {
  readonly term: RewardTerm;
  readonly client: RewardClient;
}

/**
 * The loss of a mixture: the mean over images of Σ -wᵢ sᵢ, where sᵢ is negated for rewards to be minimised, so that a
 * positive weight always improves its reward. Services are asked concurrently; sums are in the mixture's order.
 */
export class RewardMixture implements RewardSource {
  readonly #terms: readonly ConnectedTerm[];

  constructor(terms: readonly ConnectedTerm[]) {
    this.#terms = terms;
  }

  async evaluate(
    images: Float32Tensor,
    prompts: readonly string[],
    { signal }: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<Evaluation> {
    const answers = await Promise.all(
      this.#terms.map(({ term, client }) =>
        client.score(images, prompts, { gradient: term.weight !== 0, signal })
      ),
    );
    const batch = images.shape[0] ?? 1;
    const gradient = new Float32Array(images.data.length);
    const rewards: Record<string, RewardScores> = {};
    let loss = 0;
    for (const [i, { term, client }] of this.#terms.entries()) {
      const answer = answers[i];
      if (answer === undefined) continue;
      rewards[term.name] = { perImage: [...answer.scores], digest: client.digest };
      if (term.weight === 0) continue;
      const factor = lossFactor(term, client) / batch;
      for (const s of answer.scores) loss += factor * s;
      const { data } = answer.gradient ?? {};
      if (data === undefined) throw new TypeError(`Reward ${term.name} answered no gradient`);
      for (let k = 0; k < gradient.length; k++) {
        gradient[k] = (gradient[k] ?? 0) + factor * (data[k] ?? 0);
      }
    }
    return { loss, gradient: float32(gradient, images.shape), rewards };
  }
}

function lossFactor({ weight }: RewardTerm, { direction }: RewardClient): number {
  return direction === "minimise" ? weight : -weight;
}
