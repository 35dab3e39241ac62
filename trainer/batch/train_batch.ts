import { float32 } from "../../autodiff/mod.ts";
import type { StepSelection } from "../methods/mod.ts";
import { type Sampler, stopAt } from "../samplers/mod.ts";
import { accumulate, batchOf, type Float32Tensor, type Parameters } from "../tensors.ts";
import { fullAdjoint, pointAt, scaledProducts, straightThroughProducts } from "./_backward.ts";
import { type Drift, driftPenalty, gated } from "./drift.ts";
import { type Guidance, GuidedDenoiser } from "./guided_denoiser.ts";
import type { Networks } from "./networks.ts";
import { type BatchPhase, PhaseClock } from "./_phase_clock.ts";
import type { NoiseSource } from "./noise.ts";
import type { Evaluation, RewardSource } from "./reward_source.ts";
import { combine, type Probe, sample, type Trajectory } from "./sample.ts";
import { similarity, stepsOf } from "./_similarity.ts";
import { straightThrough } from "./straight_through.ts";

/** One batch of one iteration. */
export interface BatchOptions {
  readonly sampler: Sampler;
  readonly selection: StepSelection;
  readonly guidance: Guidance;
  /** One per image. */
  readonly prompts: readonly string[];
  /** What images should not show, one per image. Default: nothing. */
  readonly negativePrompts?: readonly string[] | undefined;
  readonly noise: NoiseSource;
  readonly reward: RewardSource;
  /** Default: no penalty. */
  readonly drift?: Drift | undefined;
  /** Sees every tensor under the names of the golden cases: "x.3", "image", "grad_main.<parameter>"... */
  readonly probe?: Probe | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type { BatchPhase };

/** What a batch found. */
export interface BatchResult {
  /** Of the loss, by parameter; a parameter is absent if no trained step was reached. */
  readonly gradients: Parameters;
  readonly evaluation: Evaluation;
  /**
   * Mean over images, elements and trained steps of what `drift` measures, without its weight; in the loss besides
   * the reward's. Only there with `drift`.
   */
  readonly drift?: number;
  readonly seconds: Readonly<Record<BatchPhase, number>>;
}

/**
 * One batch of any method on any sampler (arXiv 2405.00760, algorithm 1): samples, decodes, asks for the
 * reward's gradient and takes it back to the parameters.
 *
 * With the input stop-gradient the gradient at trained step i is kappa_i d loss / d x0, known before any network runs
 * backwards (`closedForm`), so all trained steps are one batch. Without it the adjoint goes back through the steps.
 * Methods with a surrogate have at most one product with the network's input besides (`straightThrough`).
 */
export async function trainBatch(networks: Networks, options: BatchOptions): Promise<BatchResult> {
  const { selection, guidance, prompts, noise, reward, probe, signal } = options;
  const T = options.sampler.steps.length;
  const sampler = selection.tMin === 0
    ? options.sampler
    : stopAt(options.sampler, T - selection.tMin);
  const trained = selection.trainSteps.map((t) => T - t).filter((i) => i < sampler.steps.length);
  const straight = selection.surrogate &&
    straightThrough(sampler, { surrogate: selection.surrogate, trainSteps: selection.trainSteps });
  const keep = new Set([...trained, ...straight ? stepsOf(straight) : []]);
  const clock = new PhaseClock();

  const initial = noise.initial();
  const [, , height = 1, width = 1] = initial.shape;
  const conditioning = {
    ...await clock.time("sample", () =>
      networks.prompts.encode(prompts, {
        height,
        width,
        negative: options.negativePrompts,
        embeddedGuidance: guidance.scale,
      })),
    guidance,
  };
  const denoiser = new GuidedDenoiser(networks.denoiser, conditioning);
  const trajectory = await clock.time(
    "sample",
    () => sample(denoiser, { sampler, noise, keep, probe, signal }),
  );
  /** Factors of the images' losses, where predictions are far from what was sampled. */
  const weights = straight && similarity(trajectory, { straight, probe });

  /** Decodes, scores, and takes the gradient back to the latents. */
  const valued = async (x0: Float32Tensor, prefix: string, weights?: readonly number[]) => {
    probe?.(`${prefix}x0`, x0);
    signal?.throwIfAborted();
    const images = await clock.time("decode", () => networks.decoder.decode(x0));
    probe?.(`${prefix}image`, images);
    const evaluation = await clock.time(
      "reward",
      () => reward.evaluate(images, prompts, { signal }),
    );
    probe?.(`${prefix}image_grad`, evaluation.gradient);
    const upstream = weights ? weighted(evaluation.gradient, weights) : evaluation.gradient;
    const gradient = await clock.time("gradient", () => networks.decoder.vjp(x0, upstream));
    probe?.(`${prefix}x0_grad`, gradient);
    return { evaluation, gradient };
  };

  const { evaluation, gradient } = await valued(trajectory.x0, "", weights);
  const { drift: penalty } = options;
  const drift = penalty && await clock.time(
    "gradient",
    () =>
      penalised(trajectory, {
        drift: penalty,
        factors: penalty.gate === undefined
          ? prompts.map(() => 1)
          : gated(evaluation.doubt ?? prompts.map(() => 0), penalty.gate),
        frozen: new GuidedDenoiser(penalty.frozen, conditioning),
        sampler: options.sampler,
        trained,
      }),
  );
  const penalties = drift?.cotangents ?? new Map<number, Float64Array>();
  const points = { sampler, trained, inputs: trajectory.inputs, gradient, penalties };
  const main = await clock.time(
    "gradient",
    () =>
      straight
        ? straightThroughProducts(denoiser, { ...points, straight, probe })
        : selection.inputStopGradient
        ? scaledProducts(denoiser, points)
        : fullAdjoint(denoiser, points),
  );
  const gradients: Record<string, Float32Tensor> = {};
  const add = (part: Parameters, prefix: string) => {
    for (const [name, tensor] of Object.entries(part)) probe?.(`${prefix}.${name}`, tensor);
    accumulate(gradients, part);
  };
  add(main, "grad_main");

  // DRaFT-LV: x0 is noised back to the last step and denoised again, from there alone.
  const last = options.sampler.steps.at(-1);
  for (let j = 0; j < selection.redraws && last !== undefined; j++) {
    const { alpha, sigma, timestep, clean } = last;
    const noised = combine([[alpha, trajectory.x0.data], [sigma, noise.redraw(j)]]);
    const x = float32(Float32Array.from(noised), initial.shape);
    probe?.(`redraw.${j}.x1`, x);
    const output = await clock.time("sample", () => denoiser.predict(x, timestep));
    const x0 = combine([[clean.x, noised], [clean.output, output]]);
    const redrawn = await valued(float32(Float32Array.from(x0), x.shape), `redraw.${j}.`);
    const cotangent = combine([[clean.output, redrawn.gradient.data]]);
    const { parameters } = await clock.time(
      "gradient",
      () => denoiser.vjp([{ x, timestep, cotangent }], { input: false }),
    );
    add(parameters, `grad_redraw.${j}`);
  }
  return {
    gradients,
    evaluation,
    ...(drift && { drift: drift.mean }),
    seconds: clock.seconds,
  };
}

/** Every image's gradient times its factor. */
function weighted(gradient: Float32Tensor, weights: readonly number[]): Float32Tensor {
  const size = gradient.data.length / batchOf(gradient);
  return float32(
    gradient.data.map((v, i) => v * (weights[Math.floor(i / size)] ?? 1)),
    gradient.shape,
  );
}

/** The penalty of the trained steps and its gradients at their outputs. Inputs are constants, whatever the method. */
async function penalised(
  { inputs, outputs }: Trajectory,
  { drift: { kind, weight }, factors, frozen, sampler, trained }: {
    readonly drift: Drift;
    /** Of the images. */
    readonly factors: readonly number[];
    readonly frozen: GuidedDenoiser;
    /** As it was before an early stop: the penalty is about the sampler's own transitions. */
    readonly sampler: Sampler;
    readonly trained: readonly number[];
  },
): Promise<{ readonly mean: number; readonly cotangents: ReadonlyMap<number, Float64Array> }> {
  const cotangents = new Map<number, Float64Array>();
  let mean = 0;
  for (const i of trained) {
    const { x, timestep, step } = pointAt(i, { sampler, inputs });
    const penalty = driftPenalty(kind, {
      step,
      output: outputs.get(i) ?? [],
      frozen: await frozen.predict(x, timestep),
      factors,
    });
    mean += penalty.mean / trained.length;
    cotangents.set(i, penalty.gradient.map((g) => weight * g / trained.length));
  }
  return { mean, cotangents };
}
