import type { RecordedRun, RunEvent, RunRecorder, RunStore } from "../../trainer/mod.ts";
import { Counter, gauge, type MetricFamily } from "../rpc/metrics/mod.ts";

/** What a trainer counts about its runs. */
export class TrainerMetrics {
  readonly #iterations = new Counter("drtune_trainer_iterations_total", "Iterations trained.");
  readonly #images = new Counter("drtune_trainer_images_total", "Images trained on.");
  readonly #phases = new Counter(
    "drtune_trainer_phase_seconds_total",
    "Time of iterations by phase: sample, decode, reward, gradient, update.",
  );

  /** Counts what a run records, and hands it on. */
  async record(run: RecordedRun, next: (run: RecordedRun) => Promise<RunRecorder>) {
    const recorder = await next(run);
    return {
      ...recorder,
      record: (event: RunEvent) => {
        this.#observe(event);
        recorder.record(event);
      },
    };
  }

  families(store: RunStore): MetricFamily[] {
    const states = Map.groupBy(store.list(), ({ state }) => state);
    return [
      this.#iterations.family(),
      this.#images.family(),
      this.#phases.family(),
      gauge("drtune_trainer_runs", "Runs by state.", {
        samples: [...states].map(([state, runs]) => [{ state }, runs.length]),
      }),
    ];
  }

  #observe(event: RunEvent): void {
    if (event.type !== "step" || event.step === 0) return;
    this.#iterations.add({});
    this.#images.add({}, event.prompts.length);
    for (const [phase, seconds] of Object.entries(event.seconds)) {
      if (phase !== "total") this.#phases.add({ phase }, seconds);
    }
  }
}
