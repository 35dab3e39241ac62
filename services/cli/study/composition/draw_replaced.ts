import {
  type Float32Tensor,
  GuidedDenoiser,
  type ImageSeed,
  type Networks,
  type NoiseSource,
  sample,
  type Sampler,
  seededNoise,
} from "../../../../trainer/mod.ts";

/** What is replaced from a step on. */
export type Replaced = "prompt" | "noise";

/** A picture to draw, and what it is drawn by from some step on. */
export interface ReplacedRequest {
  readonly prompt: string;
  readonly seed: number;
  readonly otherPrompt: string;
  readonly otherSeed: number;
}

/**
 * Draws pictures whose prompt, or noise, is another one from a step on.
 *
 * @param from index of the first step that reads the other one, 0 the noisiest: with 0 all do, with T none does; of the
 *   noise, with 0 the latents that sampling starts from are still the seed's, with -1 they are the other's too
 * @return images [B, 3, H, W], not clamped
 */
export async function drawReplaced(
  networks: Networks,
  requests: readonly ReplacedRequest[],
  { what, from, sampler, guidance, latents, signal }: {
    readonly what: Replaced;
    readonly from: number;
    readonly sampler: Sampler;
    readonly guidance: number;
    readonly latents: {
      readonly channels: number;
      readonly height: number;
      readonly width: number;
    };
    readonly signal: AbortSignal;
  },
): Promise<Float32Tensor> {
  const guided = async (prompts: readonly string[]) => {
    const { conditional, unconditional } = await networks.prompts.encode(prompts, {
      ...latents,
      embeddedGuidance: guidance,
    });
    return new GuidedDenoiser(networks.denoiser, {
      ...{ conditional, unconditional, guidance: { scale: guidance, gradient: "none" } },
    });
  };
  const noiseOf = (seeds: readonly number[]) =>
    seededNoise(seeds.map((seed): ImageSeed => ({ seed, iteration: 0, image: 0 })), latents);
  const first = await guided(requests.map(({ prompt }) => prompt));
  const own = noiseOf(requests.map(({ seed }) => seed));
  if (what === "noise") {
    const other = noiseOf(requests.map(({ otherSeed }) => otherSeed));
    const noise: NoiseSource = {
      initial: () => from < 0 ? other.initial() : own.initial(),
      step: (index) => index >= from ? other.step(index) : own.step(index),
      redraw: (index) => own.redraw(index),
    };
    const { x0 } = await sample(first, { sampler, noise, signal });
    return await networks.decoder.decode(x0);
  }
  const second = await guided(requests.map(({ otherPrompt }) => otherPrompt));
  let step = 0;
  const switching: Pick<GuidedDenoiser, "predict"> = {
    predict: (...call) => (step++ < from ? first : second).predict(...call),
  };
  const { x0 } = await sample(switching, { sampler, noise: own, signal });
  return await networks.decoder.decode(x0);
}
