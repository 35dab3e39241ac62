import type { ClusterPlan } from "../../trainer/mod.ts";

/** Plans as rows of Markdown. */
export function curveTable(plans: readonly ClusterPlan[]): string {
  const rows = plans.map((plan) => [
    plan.shape.workers.toLocaleString("en"),
    String(plan.shape.shardImages),
    `${Number(plan.secondsPerIteration.toPrecision(3)).toLocaleString("en")} s`,
    `${Math.round(100 * plan.efficiency)} %`,
    `${(plan.workerSeconds / 3600).toPrecision(2)} h`,
    `${plan.bound} (${Math.round(100 * plan.busy[plan.bound])} %)`,
  ]);
  const head = ["workers", "shard", "iteration", "efficiency", "GPU time", "busiest"];
  const widths = head.map((word, i) =>
    Math.max(word.length, ...rows.map((r) => r[i]?.length ?? 0))
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padStart(widths[i] ?? 0)).join(" | ")} |`;
  return [line(head), line(widths.map((w) => `${"-".repeat(w - 1)}:`)), ...rows.map(line)].join(
    "\n",
  );
}
