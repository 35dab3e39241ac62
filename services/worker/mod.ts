/** Computes what trainers hand out over NATS. */
export * from "./cluster_worker.ts";
export * from "./lora_cache.ts";
export type { ShardSession } from "./run_session.ts";
