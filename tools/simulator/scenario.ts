import { bestShard, type ClusterCosts, type ClusterPlan, USUAL_COSTS } from "../../trainer/mod.ts";

/** Numbers of workers that are shown. */
export const WORKERS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000];

/** Images of an iteration: the paper's batch, and one that gives each of 1,000 workers something to do. */
export const BATCHES = [32, 1024];

/**
 * Stable Diffusion 1.5 at 512x512 on H200s, by what one DRTune step took there in float32 (docs/gpu.md): 0.29 s for 4
 * guided sampling steps, so 3.6 s for 50; 0.08 s for the decoder, 0.40 s for the gradients. LoRA of rank 32. Rewards take
 * 0.05 s an image, a guess, on as many servers as there are eights of workers. A worker dies once in three days, its job
 * is given up after 10 s, and another is there after two minutes.
 */
export function costsOf(workers: number): ClusterCosts {
  return {
    ...USUAL_COSTS,
    shard: { fixed: 0, perImage: 4.1, beforeReward: 0.9, spread: 0.05 },
    adapt: 0.05,
    reward: { replicas: Math.max(1, Math.ceil(workers / 8)), perCall: 0.002, perImage: 0.05 },
    adapterBytes: 25.5e6,
    failures: { meanSeconds: 3 * 86_400, silence: 10, restart: 120 },
  };
}

/** The best plan for each number of workers. */
export function curve(batchSize: number): readonly ClusterPlan[] {
  return WORKERS.map((workers) =>
    bestShard(costsOf(workers), { workers, batchSize, accumulation: 1 })
  );
}
