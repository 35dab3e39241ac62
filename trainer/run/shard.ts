import { selectSteps } from "../methods/mod.ts";
import type { AdaptedDenoiser } from "../model/mod.ts";
import { randomStream } from "../random.ts";
import { makeSampler } from "../samplers/mod.ts";
import {
  type Evaluation,
  type ImageSeed,
  perturbed,
  pretrainBatch,
  type RewardSource,
  seededNoise,
  type Shift,
  shifted,
  trainBatch,
} from "../batch/mod.ts";
import { assertFinite } from "../../runtime/mod.ts";
import { scaled } from "../optim/mod.ts";
import { accumulate, type Float32Tensor, type Parameters } from "../tensors.ts";
import { pretrainingRows } from "./pretraining.ts";
import { promptsOf } from "./_prompts_of.ts";
import type { OpenedModel } from "./opened_model.ts";
import type { RunConfig } from "./run_config.ts";

/**
 * A part of an iteration that is computed on its own: images `start` to `end` - 1 of batch `batch`. Which shards an
 * iteration has follows from the configuration alone, never from who computes them.
 */
export interface Shard {
  /** Which of the iteration's accumulated batches, from 0. */
  readonly batch: number;
  readonly start: number;
  readonly end: number;
}

/** What a shard comes to. Means are over its own images. */
export interface ShardResult {
  /** Of the loss, by parameter; a parameter is absent where no trained step was reached. */
  readonly gradients: Parameters;
  /** The rewards' part of the loss, and the pretraining's. */
  readonly loss: number;
  readonly rewards: Evaluation["rewards"];
  /** What the penalty on drift measures, without its weight; with such a penalty only. */
  readonly drift?: number;
  readonly seconds: Readonly<Record<string, number>>;
  /** CPU seconds that a worker's processes spent on it; absent where the trainer computed it, which measures itself. */
  readonly cpuSeconds?: number;
  /** The name of the worker that computed it; absent where the trainer did. */
  readonly worker?: string;
}

/** The shards of every iteration, in the order in which their results are summed. */
export function shardsOf({ batch: { size, accumulation }, shard }: RunConfig): readonly Shard[] {
  const images = Math.min(shard?.images ?? size, size);
  return Array.from(
    { length: accumulation },
    (_, batch) =>
      Array.from({ length: Math.ceil(size / images) }, (_, i): Shard => ({
        batch,
        start: i * images,
        end: Math.min(size, (i + 1) * images),
      })),
  ).flat();
}

/**
 * Samples a shard's images, asks for their rewards and takes the gradient back to the parameters that `denoiser` holds:
 * a pure function of the configuration, these parameters, `iteration`, `shard` and what the rewards answer.
 */
export async function computeShard(
  opened: Pick<OpenedModel, "model" | "scheduler" | "latents" | "pretraining">,
  { config, iteration, shard: { batch, start, end }, denoiser, frozen, reward, onImages }: {
    readonly config: RunConfig;
    /** From 1. */
    readonly iteration: number;
    readonly shard: Shard;
    readonly denoiser: AdaptedDenoiser;
    /** What drift is measured from, for a configuration that penalises drift. */
    readonly frozen?: AdaptedDenoiser | undefined;
    readonly reward: RewardSource;
    /** Told the images [B, 3, H, W] and which of the iteration's the first one is. */
    readonly onImages?: ((first: number, images: Float32Tensor) => void) | undefined;
  },
): Promise<ShardResult> {
  const { model, scheduler, latents } = opened;
  const { seed, sampler: { steps: T }, drift: { weight, kind, gate } } = config;
  const first = batch * config.batch.size;
  const prompts = promptsOf(config, iteration).slice(first + start, first + end);
  const images = prompts.map((_, i) => ({ seed, iteration, image: first + start + i }));
  const { gradients, evaluation, drift, seconds } = await trainBatch(
    { prompts: model.prompts, decoder: model.decoder, denoiser },
    {
      sampler: makeSampler(config.sampler, scheduler),
      selection: selectionOf(config, { iteration, batch, T }),
      guidance: config.guidance,
      prompts,
      noise: seededNoise(images, latents),
      reward: perturbed(
        shifted(reward, { most: config.randomShift, shifts: shiftsOf(config, images) }),
        { ...config.perturb, normals: perturbationOf(images) },
      ),
      drift: frozen && weight > 0 ? { weight, kind, gate, frozen } : undefined,
      probe: (name, tensor) => {
        assertFinite(name, tensor);
        if (name === "image") onImages?.(first + start, tensor);
      },
    },
  );
  const { loss, rewards } = evaluation;
  const held = await pretrained(opened, {
    ...{ config, iteration, denoiser },
    first: first + start,
    count: end - start,
  });
  return {
    gradients: held === undefined ? gradients : summed(gradients, held.gradients),
    loss: loss + (held?.loss ?? 0),
    rewards,
    ...(drift !== undefined && { drift }),
    seconds: { ...seconds, gradient: seconds.gradient + (held?.seconds ?? 0) },
  };
}

/** The weighted pretraining loss of as many pictures as the shard has images, and its gradient, where the run has one. */
async function pretrained(
  { model, scheduler, pretraining }: Pick<OpenedModel, "model" | "scheduler" | "pretraining">,
  { config, denoiser, ...drawn }: {
    readonly config: RunConfig;
    readonly denoiser: AdaptedDenoiser;
    readonly iteration: number;
    readonly first: number;
    readonly count: number;
  },
) {
  const { pretrain, guidance } = config;
  if (pretrain === undefined || pretraining === undefined) return undefined;
  const begun = performance.now();
  const rows = pretrainingRows(await pretraining(), { config, scheduler, ...drawn });
  const networks = { prompts: model.prompts, denoiser };
  const { loss, gradients } = await pretrainBatch(networks, {
    rows,
    embeddedGuidance: guidance.scale,
  });
  return {
    loss: pretrain.weight * loss,
    gradients: scaled(gradients, pretrain.weight),
    seconds: (performance.now() - begun) / 1000,
  };
}

function summed(a: Parameters, b: Parameters): Parameters {
  const sum = {};
  accumulate(sum, a);
  accumulate(sum, b);
  return sum;
}

/** What is trained in a batch of an iteration. */
export function selectionOf(
  { method, seed }: RunConfig,
  { iteration, batch, T }: {
    readonly iteration: number;
    readonly batch: number;
    /** Sampling steps. */
    readonly T: number;
  },
) {
  return selectSteps(method, {
    T,
    random: randomStream(seed, "selection", { iteration, image: batch }),
  });
}

/** Noise of the images' copies, drawn image by image. */
function perturbationOf(images: readonly ImageSeed[]) {
  return (copy: number, size: number): Float32Array => {
    const one = size / images.length;
    const out = new Float32Array(size);
    images.forEach(({ seed, iteration, image }, i) => {
      const random = randomStream(seed, "perturb", { iteration, image, step: copy });
      out.set(random.normals(one), i * one);
    });
    return out;
  };
}

function shiftsOf({ randomShift }: RunConfig, images: readonly ImageSeed[]): Shift[] {
  return images.map(({ seed, iteration, image }) => {
    const random = randomStream(seed, "shift", { iteration, image });
    return { x: random.integer(0, randomShift), y: random.integer(0, randomShift) };
  });
}
