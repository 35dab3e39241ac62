/** Counting, and Prometheus' text format. */
export * from "./counter.ts";
export * from "./histogram.ts";
export * from "./metric_family.ts";
export * from "./process_metrics.ts";
export * from "./rpc_metrics.ts";
export * from "./serve_metrics.ts";
