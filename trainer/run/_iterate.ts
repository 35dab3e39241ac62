import { float32 } from "../../autodiff/mod.ts";
import { assertFinite } from "../../runtime/mod.ts";
import { plan } from "../methods/mod.ts";
import type { AdaptedDenoiser } from "../model/mod.ts";
import { averaged, clipFactor, globalNorm, scaled, updateAdamW, warmedUp } from "../optim/mod.ts";
import { permutation, randomStream } from "../random.ts";
import { makeSampler } from "../samplers/mod.ts";
import {
  type ImageSeed,
  perturbed,
  type RewardSource,
  seededNoise,
  type Shift,
  shifted,
  trainStep,
} from "../step/mod.ts";
import { accumulate, type Float32Tensor, type Parameters } from "../tensors.ts";
import { traced } from "../traced.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { RunConfig } from "./run_config.ts";
import type { RewardMetrics, StepEvent } from "./run_events.ts";
import type { OpenedModel } from "./opened_model.ts";

/** An iteration's result: the new state, and what its event says about it. */
export interface Iteration {
  readonly next: Checkpoint;
  readonly facts: Pick<
    StepEvent,
    "loss" | "gradNorm" | "drift" | "rewards" | "seconds" | "prompts" | "plans"
  >;
}

/**
 * The iteration after `at`: batches whose gradients are averaged, one update. A pure function of the configuration,
 * `at` and what the rewards answer; `denoiser` must hold `at`'s parameters and is left so.
 */
export async function iterate(
  { model, scheduler, latents }: OpenedModel,
  { at, config, denoiser, frozen, reward }: {
    readonly at: Checkpoint;
    readonly config: RunConfig;
    readonly denoiser: AdaptedDenoiser;
    /** What drift is measured from, for a configuration that penalises it. */
    readonly frozen?: AdaptedDenoiser | undefined;
    readonly reward: RewardSource;
  },
): Promise<Iteration> {
  const begun = performance.now();
  const iteration = at.step + 1;
  const { seed, sampler: { steps: T }, batch: { size, accumulation } } = config;
  const sampler = makeSampler(config.sampler, scheduler);
  const networks = { prompts: model.prompts, decoder: model.decoder, denoiser };
  const prompts = promptsOf(config, iteration);
  const plans = Array.from(
    { length: accumulation },
    (_, image) =>
      plan(config.method, { T, random: randomStream(seed, "plan", { iteration, image }) }),
  );
  const sum: Record<string, Float32Tensor> = {};
  const scores: Record<string, { values: number[]; digest: string }> = {};
  const seconds: Record<string, number> = {};
  const { weight, kind, gate } = config.drift;
  const drift = frozen && weight > 0 ? { weight, kind, gate, frozen } : undefined;
  let [loss, drifted] = [0, 0];
  for (const [a, plan] of plans.entries()) {
    const part = prompts.slice(a * size, (a + 1) * size);
    const images = part.map((_, i) => ({ seed, iteration, image: a * size + i }));
    const result = await trainStep(networks, {
      sampler,
      plan,
      guidance: config.guidance,
      prompts: part,
      noise: seededNoise(images, latents),
      reward: perturbed(
        shifted(reward, { most: config.randomShift, shifts: shiftsOf(config, images) }),
        { ...config.perturb, normals: perturbationOf(images) },
      ),
      drift,
      probe: assertFinite,
    });
    accumulate(sum, result.gradients);
    drifted += (result.drift ?? 0) / accumulation;
    loss += (result.evaluation.loss + weight * (result.drift ?? 0)) / accumulation;
    for (const [name, { perImage, digest }] of Object.entries(result.evaluation.rewards)) {
      // Where weights change within an iteration, those that answered last are what the next one starts with.
      scores[name] = { values: [...scores[name]?.values ?? [], ...perImage], digest };
    }
    for (const [phase, s] of Object.entries(result.seconds)) {
      seconds[phase] = (seconds[phase] ?? 0) + s;
    }
  }
  assertFinite("loss", { dtype: "float64", shape: [1], data: Float64Array.of(loss) });
  const updating = performance.now();
  const { next, gradNorm } = await traced("update", () => updated(at, { sum, config }));
  const ended = performance.now();
  seconds.update = (ended - updating) / 1000;
  seconds.total = (ended - begun) / 1000;
  const rewards = Object.fromEntries(
    Object.entries(scores).map(([name, { values, digest }]): [string, RewardMetrics] => [
      name,
      { mean: values.reduce((x, y) => x + y, 0) / values.length, perImage: values, digest },
    ]),
  );
  return {
    next,
    facts: {
      loss,
      gradNorm,
      ...(drift && { drift: drifted }),
      rewards,
      seconds,
      prompts: [...prompts],
      // Which steps are trained says what a surrogate drew.
      plans: plans.map(({ surrogate: _, ...plan }) => plan),
    },
  };
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

function updated(
  at: Checkpoint,
  { sum, config }: { readonly sum: Parameters; readonly config: RunConfig },
): { next: Checkpoint; gradNorm: number } {
  const { maxGradNorm, warmup, ...options } = config.optimizer;
  // A draw may reach no trained step of its batch: what is missing is zero. Sorted, because the norm must not depend
  // on the order, which a checkpoint does not keep.
  const whole = Object.fromEntries(
    Object.keys(at.parameters).sort().map((name) => {
      const { data, shape } = at.parameters[name] ?? float32([]);
      return [name, sum[name] ?? float32(new Float32Array(data.length), shape)];
    }),
  );
  const mean = scaled(whole, 1 / config.batch.accumulation);
  const gradNorm = globalNorm(mean);
  assertFinite("gradient norm", float32([gradNorm]));
  const update = at.optimizer.updates + 1;
  const { parameters, state } = updateAdamW({
    parameters: at.parameters,
    gradients: scaled(mean, clipFactor(gradNorm, maxGradNorm)),
    state: at.optimizer,
  }, { ...options, learningRate: warmedUp(options.learningRate, { update, warmup }) });
  const { drift: { weight, resetEvery }, lora: { ema } } = config;
  const step = at.step + 1;
  const isReset = weight > 0 && resetEvery > 0 && step % resetEvery === 0;
  const reference = isReset ? parameters : at.reference;
  const next: Checkpoint = {
    step,
    parameters,
    optimizer: state,
    ...(ema !== undefined && {
      average: averaged(parameters, { before: at.average, update, decay: ema }),
    }),
    ...(reference && { reference }),
  };
  return { next, gradNorm };
}

/** Prompts of an iteration: each pass over the list is a new seeded permutation. */
export function promptsOf(
  { prompts, batch: { size, accumulation }, seed }: RunConfig,
  iteration: number,
): readonly string[] {
  const count = size * accumulation;
  const orders = new Map<number, Uint32Array>();
  return Array.from({ length: count }, (_, i) => {
    const n = (iteration - 1) * count + i;
    const pass = Math.floor(n / prompts.length);
    const order = orders.get(pass) ??
      permutation(prompts.length, randomStream(seed, "prompts", { iteration: pass }));
    orders.set(pass, order);
    return prompts[order[n % prompts.length] ?? 0] ?? "";
  });
}
