import {
  bestShard,
  type ClusterCosts,
  type ClusterPlan,
  planCluster,
  type RunConfig,
  type RunPlan,
  USUAL_COSTS,
} from "../../../trainer/mod.ts";
import { UsageError } from "../command.ts";
import { duration } from "../progress.ts";

/** A guess for machines of one kind: what the same iteration took at different times, standard deviation over mean. */
const SPREAD = 0.05;

/** Predictions for 1, 2, 4, … machines and for so many as were asked for, the fewest first. Throws `UsageError`. */
export function clusterPlans(
  config: RunConfig,
  { workers, shard, reward, planRun }: {
    readonly workers: number;
    /** Images of a shard. Default: the best for each number of workers. */
    readonly shard: number | undefined;
    /** Seconds of all rewards for an image, and servers of each. */
    readonly reward: { readonly perImage: number; readonly replicas: number };
    readonly planRun: (config: RunConfig) => RunPlan;
  },
): readonly ClusterPlan[] {
  const { batch } = config;
  if (shard !== undefined && shard > batch.size) {
    throw new UsageError(`Option --shard is ${shard}, expected at most the batch, ${batch.size}`);
  }
  const costs = clusterCosts(config, { reward, planRun });
  const shape = { batchSize: batch.size, accumulation: batch.accumulation };
  const counts = [...powersBelow(workers), workers];
  return counts.map((workers) =>
    shard === undefined
      ? bestShard(costs, { ...shape, workers })
      : planCluster(costs, { ...shape, workers, shardImages: shard })
  );
}

/** What a shard costs, from estimates of a batch of one image and of the whole one. */
function clusterCosts(
  config: RunConfig,
  { reward, planRun }: Pick<Parameters<typeof clusterPlans>[1], "reward" | "planRun">,
): ClusterCosts {
  const of = (size: number) =>
    planRun({ ...config, batch: { ...config.batch, size, accumulation: 1 } });
  const { size } = config.batch;
  const [one, all] = [of(1), of(size)];
  const perImage = size === 1
    ? one.secondsPerIteration
    : (all.secondsPerIteration - one.secondsPerIteration) / (size - 1);
  const before = all.phases.filter(({ name }) => !name.endsWith("gradient"))
    .reduce((sum, { seconds }) => sum + seconds, 0);
  return {
    ...USUAL_COSTS,
    shard: {
      fixed: Math.max(0, one.secondsPerIteration - perImage),
      perImage,
      beforeReward: before / all.secondsPerIteration,
      spread: SPREAD,
    },
    adapt: 0,
    reward: { ...reward, perCall: 0 },
    adapterBytes: all.adapterBytes,
  };
}

function powersBelow(n: number): number[] {
  const powers: number[] = [];
  for (let power = 1; power < n; power *= 2) powers.push(power);
  return powers;
}

/** The predictions for people. */
export function clusterTable(plans: readonly ClusterPlan[]): string {
  const seconds = (s: number) => s < 10 ? `${s.toPrecision(2)} s` : duration(s);
  const rows = [
    ["workers", "shard", "iteration", "efficiency", "of workers", "bound by"],
    ...plans.map((plan) => [
      String(plan.shape.workers),
      String(plan.shape.shardImages),
      seconds(plan.secondsPerIteration),
      `${Math.round(100 * plan.efficiency)} %`,
      seconds(plan.workerSeconds),
      plan.bound,
    ]),
  ];
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0))) ?? [];
  return [
    "",
    "On a cluster, rewards counted, by simulation (docs/scale.md):",
    "",
    ...rows.map((row) => row.map((cell, i) => cell.padStart(widths[i] ?? 0)).join("  ")),
  ].join("\n");
}
