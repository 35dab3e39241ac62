import type { AdaptedDenoiser } from "../model/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import { askPatiently } from "./_ask_rewards.ts";
import type { ComputeShards } from "./_iterate.ts";
import { type Boundary, isInterrupted } from "./_pending.ts";
import type { LoopRun } from "./_loop_run.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { OpenedModel } from "./opened_model.ts";
import { computeShard } from "./shard.ts";
import type { RunWorkers } from "./shard_workers.ts";

/** Shards computed one after the other by this process. */
export function ownShards(
  run: LoopRun,
  { opened, boundary, denoiser, frozen, onImages }: {
    readonly opened: OpenedModel;
    readonly boundary: Boundary;
    /** Holds the parameters that the iteration begins with. */
    readonly denoiser: AdaptedDenoiser;
    readonly frozen: AdaptedDenoiser | undefined;
    /** Told the iteration's images [B, 3, H, W] and which the first one is. */
    readonly onImages?: ((first: number, images: Float32Tensor) => void) | undefined;
  },
): ComputeShards {
  const { config } = run;
  return async (shards, take) => {
    for (const [index, shard] of shards.entries()) {
      const result = await computeShard(opened, {
        ...{ config, shard, denoiser, frozen, onImages },
        iteration: boundary.step + 1,
        reward: {
          evaluate: (images, prompts) =>
            askPatiently(run, {
              terms: boundary.mixture,
              combine: config.combine,
              ask: (mixture, signal) => mixture.evaluate(images, prompts, { signal }),
              isWanted: () => isInterrupted(boundary, run),
            }),
        },
      });
      take(index, result);
    }
  };
}

/** Shards computed by workers. While none can, or a reward is away, the run waits as it does for rewards. */
export function workersShards(
  run: LoopRun,
  { workers, boundary, at: { parameters, reference } }: {
    readonly workers: RunWorkers;
    readonly boundary: Boundary;
    /** What the iteration begins with. */
    readonly at: Checkpoint;
  },
): ComputeShards {
  const { clients, patience } = run;
  const { step, mixture } = boundary;
  return async (shards, take) => {
    const offered = workers.offer({
      ...{ shards, parameters, reference, take },
      iteration: step + 1,
      rewards: mixture,
    });
    try {
      await patience.until({
        work: async (signal) => {
          try {
            await offered.taken(signal);
          } catch (error) {
            // What comes back may be another: it is asked for its facts again.
            await clients.close();
            throw error;
          }
        },
        ping: (ms) => clients.ping(mixture, ms),
        isWanted: () => isInterrupted(boundary, run),
      });
    } finally {
      await offered.withdraw();
    }
  };
}
