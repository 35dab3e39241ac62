import { float32 } from "../../autodiff/mod.ts";
import { assertFinite } from "../../runtime/mod.ts";
import { averaged, clipFactor, globalNorm, scaled, updateAdamW, warmedUp } from "../optim/mod.ts";
import type { Parameters } from "../tensors.ts";
import { traced } from "../traced.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { promptsOf } from "./_prompts_of.ts";
import { ShardSum } from "./_shard_sum.ts";
import type { RunConfig } from "./run_config.ts";
import type { StepEvent } from "./run_events.ts";
import { selectionOf, type Shard, type ShardResult, shardsOf } from "./shard.ts";

/** An iteration's result: the new state, and what its event says about it. */
export interface Iteration {
  readonly next: Checkpoint;
  readonly facts: Pick<
    StepEvent,
    | "loss"
    | "gradNorm"
    | "drift"
    | "rewards"
    | "seconds"
    | "prompts"
    | "plans"
    | "workers"
    | "cpuSeconds"
  >;
}

/** Computes shards of an iteration with the LoRA it begins with, each once and in any order. */
export type ComputeShards = (
  shards: readonly Shard[],
  take: (index: number, result: ShardResult) => void,
) => Promise<void>;

/**
 * The iteration after `at`: shards whose gradients are averaged, one update. A pure function of the configuration, `at`
 * and what the rewards answer, whoever computes the shards.
 */
export async function iterate(
  { at, config, compute }: {
    readonly at: Checkpoint;
    readonly config: RunConfig;
    readonly compute: ComputeShards;
  },
): Promise<Iteration> {
  const begun = performance.now();
  const iteration = at.step + 1;
  const sum = new ShardSum(config);
  await compute(shardsOf(config), (index, result) => sum.add(index, result));
  const { gradients, seconds, ...facts } = sum.total();
  assertFinite("loss", { dtype: "float64", shape: [1], data: Float64Array.of(facts.loss) });
  const updating = performance.now();
  const { next, gradNorm } = await traced(
    "update",
    () => updated(at, { sum: gradients, config }),
  );
  const ended = performance.now();
  seconds.update = (ended - updating) / 1000;
  seconds.total = (ended - begun) / 1000;
  const { sampler: { steps: T }, batch: { accumulation } } = config;
  return {
    next,
    facts: {
      ...facts,
      gradNorm,
      seconds,
      prompts: [...promptsOf(config, iteration)],
      plans: [...Array(accumulation).keys()].map((batch) => {
        // Which steps are trained says what a surrogate drew.
        const { surrogate: _, ...selection } = selectionOf(config, { iteration, batch, T });
        return selection;
      }),
    },
  };
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
