import { float32 } from "../../autodiff/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import type { Evaluation, RewardSource } from "./reward_source.ts";

/** How images are perturbed. */
export interface Perturbation {
  /** Copies of each image, 1 or more. */
  readonly copies: number;
  /** Standard deviation of the noise, of pixels in [0, 1]; 0: the images as they are. */
  readonly noise: number;
}

/**
 * A reward whose scores and gradients are means over copies of the images, each with Gaussian noise of its own: the gradient
 * of a landscape without the narrow peaks that a reward is cheated at (arXiv 2603.21175, which smooths in pixels and latents;
 * SmoothGrad, arXiv 1706.03825). `normals` gives the standard normal noise of a copy, as many numbers as the images have.
 */
export function perturbed(
  reward: RewardSource,
  { copies, noise, normals }: Perturbation & {
    readonly normals: (copy: number, size: number) => Float32Array;
  },
): RewardSource {
  if (noise === 0) return reward;
  return {
    async evaluate(images, prompts, options) {
      const evaluations: Evaluation[] = [];
      for (let copy = 0; copy < copies; copy++) {
        const added = normals(copy, images.data.length);
        const copied = images.data.map((v, i) => v + noise * (added[i] ?? 0));
        evaluations.push(await reward.evaluate(float32(copied, images.shape), prompts, options));
      }
      return mean(evaluations, images);
    },
  };
}

function mean(evaluations: readonly Evaluation[], { data, shape }: Float32Tensor): Evaluation {
  const n = evaluations.length;
  const [first, ...others] = evaluations;
  if (first === undefined) throw new RangeError("No copy of the images");
  const gradient = new Float64Array(data.length);
  for (const one of evaluations) {
    one.gradient.data.forEach((g, i) => gradient[i] = (gradient[i] ?? 0) + g / n);
  }
  const rewards = Object.entries(first.rewards).map(([name, { perImage, digest }]) => {
    const scores = perImage.map((s, i) =>
      others.reduce((sum, one) => sum + (one.rewards[name]?.perImage[i] ?? NaN), s) / n
    );
    // Where weights change meanwhile, those that answered last are what the next images meet.
    return [name, {
      perImage: scores,
      digest: evaluations.at(-1)?.rewards[name]?.digest ?? digest,
    }];
  });
  const doubt = first.doubt?.map((_, i) =>
    evaluations.reduce((sum, one) => sum + (one.doubt?.[i] ?? NaN) / n, 0)
  );
  return {
    ...(doubt && { doubt }),
    loss: evaluations.reduce((sum, { loss }) => sum + loss / n, 0),
    gradient: float32(Float32Array.from(gradient), shape),
    rewards: Object.fromEntries(rewards),
  };
}
