/** Computes what trainers hand out over NATS. */
export * from "./cluster_worker.ts";
