/** Predicts what a run takes on many machines, by discrete events. */
export { bestShard, type ClusterPlan, planCluster, shardSizes } from "./best_shard.ts";
export { type ClusterCosts, type ClusterShape, USUAL_COSTS } from "./cluster_costs.ts";
export { type ClusterEstimate, type Part, PARTS, simulateCluster } from "./simulate_cluster.ts";
