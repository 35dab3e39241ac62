import type { ClusterCosts, ClusterShape } from "./cluster_costs.ts";
import { type ClusterEstimate, type Part, PARTS, simulateCluster } from "./simulate_cluster.ts";

/** A prediction, and what it was made for. */
export interface ClusterPlan extends ClusterEstimate {
  readonly shape: ClusterShape;
  /** Share of what the workers would do if they did nothing but what one worker does. */
  readonly efficiency: number;
  /** Seconds of workers that an iteration takes: what it costs. */
  readonly workerSeconds: number;
  /** The part that is busy most: the one that more workers do not help. */
  readonly bound: Part;
}

/** Iterations that a prediction is the mean of, the first not counted. */
const ITERATIONS = 6;
const SEED = 1;

/** Predicts a run of one shape. The same costs and shape give the same numbers. */
export function planCluster(costs: ClusterCosts, shape: ClusterShape): ClusterPlan {
  const play = (workers: number) =>
    simulateCluster(costs, { ...shape, workers }, { iterations: ITERATIONS, seed: SEED });
  const estimate = play(shape.workers);
  const { failures: _, ...sound } = costs;
  const alone = simulateCluster(sound, { ...shape, workers: 1 }, {
    iterations: ITERATIONS,
    seed: SEED,
  });
  const workerSeconds = shape.workers * estimate.secondsPerIteration;
  const bound = PARTS.reduce((a, b) => estimate.busy[b] > estimate.busy[a] ? b : a);
  const efficiency = alone.secondsPerIteration / workerSeconds;
  return { ...estimate, shape, efficiency, workerSeconds, bound };
}

/** Shards that cut a batch into different numbers of parts: the smallest size for each number. */
export function shardSizes(batchSize: number): readonly number[] {
  const parts = Array.from({ length: batchSize }, (_, i) => Math.ceil(batchSize / (i + 1)));
  return [...new Set(parts)].sort((a, b) => a - b);
}

/** The size of shard with which an iteration is predicted to take the least, to a hundredth; of those the largest. */
export function bestShard(
  costs: ClusterCosts,
  shape: Omit<ClusterShape, "shardImages">,
): ClusterPlan {
  const plans = shardSizes(shape.batchSize).map((shardImages) =>
    planCluster(costs, { ...shape, shardImages })
  );
  const least = Math.min(...plans.map(({ secondsPerIteration }) => secondsPerIteration));
  // Fewer jobs for the same time are fewer gradients on the line.
  const best = plans.findLast(({ secondsPerIteration }) => secondsPerIteration <= 1.01 * least);
  if (best === undefined) throw new RangeError("There is no size of shard");
  return best;
}
