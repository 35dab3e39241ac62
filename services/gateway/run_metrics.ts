import { type Run, RunState } from "../../proto/mod.ts";
import type { Labels, MetricFamily } from "../rpc/metrics/mod.ts";

/** Metrics of the runs, from what the trainer lists. */
export function runMetrics(runs: readonly Run[]): MetricFamily[] {
  const gauge = (
    name: string,
    help: string,
    of: (run: Run) => readonly (readonly [Labels, number | undefined])[],
  ): MetricFamily => ({
    name: `drtune_run_${name}`,
    type: "gauge",
    help,
    samples: runs.flatMap((run) =>
      of(run).flatMap(([labels, value]) =>
        value === undefined ? [] : [["", { run: run.id, ...labels }, value] as const]
      )
    ),
  });
  return [
    gauge("state", "1 for the state a run is in.", ({ state }) => [
      [{ state: (RunState[state] ?? "UNSPECIFIED").toLowerCase() }, 1],
    ]),
    gauge("step", "Iterations done.", ({ step }) => [[{}, step]]),
    gauge("iterations", "Iterations to do.", ({ iterations }) => [[{}, iterations]]),
    gauge("loss", "Loss of the last step.", ({ latest }) => [[{}, latest?.loss]]),
    gauge("grad_norm", "Gradient norm of the last step.", ({ latest }) => [
      [{}, latest?.gradNorm],
    ]),
    gauge("step_seconds", "Duration of the last step.", ({ latest }) => [
      [{}, latest?.seconds["total"]],
    ]),
    gauge(
      "reward",
      "Mean reward of the last step, in its own units.",
      ({ latest }) =>
        Object.entries(latest?.rewards ?? {}).map(([reward, { mean }]) => [{ reward }, mean]),
    ),
  ];
}
