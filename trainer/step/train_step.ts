import { float32 } from "../../autodiff/mod.ts";
import type { Plan } from "../methods/mod.ts";
import { closedForm, type Sampler, type SamplerStep, stopAt } from "../samplers/mod.ts";
import { accumulate, type Float32Tensor, type Parameters } from "../tensors.ts";
import { traced } from "../traced.ts";
import { type Drift, driftFactor } from "./drift.ts";
import { type Guidance, GuidedDenoiser, type Point } from "./guided_denoiser.ts";
import type { Networks } from "./networks.ts";
import type { NoiseSource } from "./noise.ts";
import type { Evaluation, RewardSource } from "./reward_source.ts";
import { combine, type Probe, sample, type Trajectory } from "./sample.ts";

/** One batch of one iteration. */
export interface StepOptions {
  readonly sampler: Sampler;
  readonly plan: Plan;
  readonly guidance: Guidance;
  /** One per image. */
  readonly prompts: readonly string[];
  readonly noise: NoiseSource;
  readonly reward: RewardSource;
  /** Default: no penalty. */
  readonly drift?: Drift | undefined;
  /** Sees every tensor under the names of the golden cases: "x.3", "image", "grad_main.<parameter>"... */
  readonly probe?: Probe | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Parts of a step that are timed. */
export type StepPhase = "sample" | "decode" | "reward" | "gradient";

/** What a step found. */
export interface StepResult {
  /** Of the loss, by parameter; a parameter is absent if no trained step was reached. */
  readonly gradients: Parameters;
  readonly evaluation: Evaluation;
  /**
   * Mean over images, elements and trained steps of what `drift` measures, without its weight; in the loss besides
   * the reward's. Only there with `drift`.
   */
  readonly drift?: number;
  readonly seconds: Readonly<Record<StepPhase, number>>;
}

/**
 * One training step of any method on any sampler (arXiv 2405.00760, algorithm 1): samples, decodes, asks for the
 * reward's gradient and takes it back to the parameters.
 *
 * With the input stop-gradient the gradient at trained step i is kappa_i d loss / d x0, known before any network runs
 * backwards (`closedForm`), so all trained steps are one batch. Without it the adjoint goes back through the steps.
 */
export async function trainStep(networks: Networks, options: StepOptions): Promise<StepResult> {
  const { plan, guidance, prompts, noise, reward, probe, signal } = options;
  const T = options.sampler.steps.length;
  const sampler = plan.tMin === 0 ? options.sampler : stopAt(options.sampler, T - plan.tMin);
  const trained = plan.trainSteps.map((t) => T - t).filter((i) => i < sampler.steps.length);
  const clock = new PhaseClock();

  const initial = noise.initial();
  const [, , height = 1, width = 1] = initial.shape;
  const conditioning = {
    ...await clock.time("sample", () => networks.prompts.encode(prompts, { height, width })),
    guidance,
  };
  const denoiser = new GuidedDenoiser(networks.denoiser, conditioning);
  const trajectory = await clock.time(
    "sample",
    () => sample(denoiser, { sampler, noise, keep: new Set(trained), probe, signal }),
  );

  /** Decodes, scores, and takes the gradient back to the latents. */
  const valued = async (x0: Float32Tensor, prefix: string) => {
    probe?.(`${prefix}x0`, x0);
    signal?.throwIfAborted();
    const images = await clock.time("decode", () => networks.decoder.decode(x0));
    probe?.(`${prefix}image`, images);
    const evaluation = await clock.time(
      "reward",
      () => reward.evaluate(images, prompts, { signal }),
    );
    probe?.(`${prefix}image_grad`, evaluation.gradient);
    const gradient = await clock.time(
      "gradient",
      () => networks.decoder.vjp(x0, evaluation.gradient),
    );
    probe?.(`${prefix}x0_grad`, gradient);
    return { evaluation, gradient };
  };

  const { evaluation, gradient } = await valued(trajectory.x0, "");
  const { drift: penalty } = options;
  const drift = penalty && await clock.time(
    "gradient",
    () =>
      penalised(trajectory, {
        drift: penalty,
        frozen: new GuidedDenoiser(penalty.frozen, conditioning),
        sampler: options.sampler,
        trained,
      }),
  );
  const penalties = drift?.cotangents ?? new Map<number, Float64Array>();
  const points = { sampler, trained, inputs: trajectory.inputs, gradient, penalties };
  const main = await clock.time(
    "gradient",
    () => plan.inputStopGradient ? scaledProducts(denoiser, points) : fullAdjoint(denoiser, points),
  );
  const gradients: Record<string, Float32Tensor> = {};
  const add = (part: Parameters, prefix: string) => {
    for (const [name, tensor] of Object.entries(part)) probe?.(`${prefix}.${name}`, tensor);
    accumulate(gradients, part);
  };
  add(main, "grad_main");

  // DRaFT-LV: x0 is noised back to the last step and denoised again, from there alone.
  const last = options.sampler.steps.at(-1);
  for (let j = 0; j < plan.redraws && last !== undefined; j++) {
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

/** The penalty of the trained steps and its gradients at their outputs. Inputs are constants, whatever the method. */
async function penalised(
  { inputs, outputs }: Trajectory,
  { drift: { kind, weight }, frozen, sampler, trained }: {
    readonly drift: Drift;
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
    const difference = combine([
      [1, outputs.get(i) ?? []],
      [-1, await frozen.predict(x, timestep)],
    ]);
    const factor = driftFactor(kind, step) / (trained.length * difference.length);
    for (const d of difference) mean += factor * d * d;
    cotangents.set(i, difference.map((d) => 2 * weight * factor * d));
  }
  return { mean, cotangents };
}

interface Backward {
  readonly sampler: Sampler;
  /** Indices of the trained steps. */
  readonly trained: readonly number[];
  readonly inputs: ReadonlyMap<number, Float32Tensor>;
  /** d loss / d x0. */
  readonly gradient: Float32Tensor;
  /** Of the penalties at the outputs of trained steps. */
  readonly penalties: ReadonlyMap<number, Float64Array>;
}

async function scaledProducts(
  denoiser: GuidedDenoiser,
  { sampler, trained, inputs, gradient, penalties }: Backward,
): Promise<Parameters> {
  const kappa = closedForm(sampler);
  const points = trained.map((i): Point => ({
    ...pointAt(i, { sampler, inputs }),
    cotangent: combine([[kappa[i] ?? 0, gradient.data], [1, penalties.get(i) ?? []]]),
  }));
  return (await denoiser.vjp(points, { input: false })).parameters;
}

/** The recurrence of `closedForm` with vectors: what arrives at x_i also comes through the denoiser. */
async function fullAdjoint(
  denoiser: GuidedDenoiser,
  { sampler, trained, inputs, gradient, penalties }: Backward,
): Promise<Parameters> {
  const sum: Record<string, Float32Tensor> = {};
  const first = Math.min(...trained);
  let u1 = Float64Array.from(gradient.data);
  let [u2, previous] = [u1, 0];
  for (let i = sampler.steps.length - 1; i >= first; i--) {
    const step = sampler.steps[i];
    if (step === undefined) break;
    const { next, clean } = step;
    const arriving = (key: "x" | "output") =>
      combine([[next[key], u1], [clean[key] * previous, u2]]);
    let u = arriving("x");
    if (trained.includes(i)) {
      const at = pointAt(i, { sampler, inputs });
      const penalty = penalties.get(i);
      // The penalty's own product: it goes to the parameters, not on to x_i.
      const points = [arriving("output"), ...(penalty ? [penalty] : [])].map((cotangent) => ({
        ...at,
        cotangent,
      }));
      const { parameters, inputs: [through] } = await denoiser.vjp(points, { input: i > first });
      accumulate(sum, parameters);
      if (through !== undefined) u = combine([[1, u], [1, through]]);
    }
    [u1, u2, previous] = [u, u1, next.previous];
  }
  return sum;
}

function pointAt(
  i: number,
  { sampler, inputs }: Pick<Backward, "sampler" | "inputs">,
): { x: Float32Tensor; timestep: number; step: SamplerStep } {
  const [x, step] = [inputs.get(i), sampler.steps[i]];
  if (x === undefined || step === undefined) throw new RangeError(`Step ${i} was not kept`);
  return { x, timestep: step.timestep, step };
}

class PhaseClock {
  readonly seconds: Record<StepPhase, number> = { sample: 0, decode: 0, reward: 0, gradient: 0 };

  async time<T>(phase: StepPhase, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await traced(phase, work);
    } finally {
      this.seconds[phase] += (performance.now() - start) / 1000;
    }
  }
}
