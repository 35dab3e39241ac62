import { Counter, gauge, Histogram, type MetricFamily } from "../rpc/metrics/mod.ts";
import type { ScoredJob } from "./batcher.ts";
import type { RewardHost } from "./reward_host.ts";

/** What a reward server counts about its rewards. */
export class RewardMetrics {
  readonly #images = new Counter("drtune_reward_images_total", "Images scored.");
  readonly #compute = new Histogram(
    "drtune_reward_compute_seconds",
    "Time a request's batches took in the model's session.",
  );
  readonly #queue = new Histogram(
    "drtune_reward_queue_seconds",
    "Time a request waited before its first batch.",
  );

  /** Told of each job that has been scored. */
  observe({ info, scores, gradient, queueSeconds, computeSeconds }: ScoredJob): void {
    const labels = { reward: info.name, gradient: gradient === undefined ? "no" : "yes" };
    this.#images.add(labels, scores.length);
    this.#compute.observe(labels, computeSeconds);
    this.#queue.observe({ reward: info.name }, queueSeconds);
  }

  families(host: RewardHost): MetricFamily[] {
    const rewards = host.list();
    return [
      this.#images.family(),
      this.#compute.family(),
      this.#queue.family(),
      gauge("drtune_reward_queued_images", "Images that wait.", {
        samples: rewards.map(({ name, queuedImages }) => [{ reward: name }, queuedImages]),
      }),
      gauge("drtune_reward_ready", "1 while the reward answers.", {
        samples: rewards.map(({ name, state }) => [{ reward: name }, Number(state === "ready")]),
      }),
      gauge("drtune_reward_restarts_total", "Times its process was started again.", {
        type: "counter",
        samples: rewards.map(({ name, restarts }) => [{ reward: name }, restarts]),
      }),
    ];
  }
}
