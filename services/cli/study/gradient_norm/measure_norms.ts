import {
  type Denoiser,
  type Float32Tensor,
  globalNorm,
  type LatentSize,
  type Parameters,
  type PipelineModel,
  type Sampler,
  seededNoise,
  sliceBatch,
  trainBatch,
} from "../../../../trainer/mod.ts";
import type { Reward } from "../../../../rewards/mod.ts";

/** A LoRA whose gradient is measured. */
export interface MeasuredLora {
  readonly model: PipelineModel;
  readonly parameters: Parameters;
}

/**
 * L2 norms of DRaFT-K's LoRA gradient of one image, for K = 1..T. One pass gives them all: DRaFT-K's gradient is DRaFT-T's
 * without the shares of the steps before the last K, for what arrives at a step does not depend on the steps before it.
 */
export async function measureNorms(
  { model, parameters }: MeasuredLora,
  { reward, sampler, guidance, size, prompt, seed, inputStopGradient }: {
    readonly reward: Reward;
    readonly sampler: Sampler;
    readonly guidance: number;
    readonly size: LatentSize;
    readonly prompt: string;
    readonly seed: number;
    readonly inputStopGradient: boolean;
  },
): Promise<readonly number[]> {
  const denoiser = await model.adapt(parameters);
  const running = new RunningSum();
  const T = sampler.steps.length;
  try {
    await trainBatch({
      prompts: model.prompts,
      decoder: model.decoder,
      denoiser: rowByRow(denoiser, (part) => running.add(part)),
    }, {
      sampler,
      selection: {
        trainSteps: Array.from({ length: T }, (_, i) => i + 1),
        ...{ tMin: 0, redraws: 0, inputStopGradient },
      },
      guidance: { scale: guidance, gradient: "both" },
      prompts: [prompt],
      noise: seededNoise([{ seed, iteration: 0, image: 0 }], {
        ...{ channels: model.latentChannels, ...size },
      }),
      reward: {
        async evaluate(images, prompts) {
          const { gradient } = await reward.score(images, prompts, { gradient: true });
          if (gradient === undefined) throw new TypeError("The reward answered no gradient");
          return { loss: 0, gradient, rewards: {} };
        },
      },
    });
  } finally {
    await denoiser.release();
  }
  return running.norms;
}

/** Adds up parameters' gradients and keeps the norm after every addition. */
class RunningSum {
  readonly norms: number[] = [];
  readonly #sum: Record<string, Float32Tensor> = {};

  add(part: Parameters): void {
    for (const [name, { data, shape, dtype }] of Object.entries(part)) {
      const sum = this.#sum[name] ??= { dtype, shape, data: new Float32Array(data.length) };
      for (let i = 0; i < data.length; i++) sum.data[i] = (sum.data[i] ?? 0) + (data[i] ?? 0);
    }
    this.norms.push(globalNorm(this.#sum));
  }
}

/** A denoiser whose products run row by row, the last sampling step's first, each told to `seen`. */
function rowByRow(denoiser: Denoiser, seen: (part: Parameters) => void): Denoiser {
  const row = (tensor: Float32Tensor, i: number) => sliceBatch(tensor, i, i + 1);
  return {
    predict: (rows) => denoiser.predict(rows),
    async vjp({ x, timesteps, branches }, cotangents, options) {
      let result: Awaited<ReturnType<Denoiser["vjp"]>> = { parameters: {} };
      for (const i of timesteps.keys()) {
        result = await denoiser.vjp(
          {
            x: row(x, i),
            timesteps: timesteps.slice(i, i + 1),
            branches: branches.map((b) =>
              Object.fromEntries(Object.entries(b).map(([name, t]) => [name, row(t, i)]))
            ),
          },
          cotangents.map((c) => row(c, i)),
          options,
        );
        seen(result.parameters);
      }
      return result;
    },
  };
}
