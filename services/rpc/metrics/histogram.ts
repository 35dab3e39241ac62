import type { Labels, MetricFamily } from "./metric_family.ts";

/** Upper bounds of the buckets, seconds. */
const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Durations by labels. */
export class Histogram {
  readonly #name: string;
  readonly #help: string;
  readonly #entries = new Map<
    string,
    { readonly labels: Labels; readonly counts: number[]; sum: number; count: number }
  >();

  constructor(name: string, help: string) {
    [this.#name, this.#help] = [name, help];
  }

  observe(labels: Labels, seconds: number): void {
    const key = JSON.stringify(labels);
    const entry = this.#entries.get(key) ??
      { labels, counts: BUCKETS.map(() => 0), sum: 0, count: 0 };
    BUCKETS.forEach((bound, i) => {
      if (seconds <= bound) entry.counts[i] = (entry.counts[i] ?? 0) + 1;
    });
    entry.sum += seconds;
    entry.count++;
    this.#entries.set(key, entry);
  }

  family(): MetricFamily {
    return {
      name: this.#name,
      type: "histogram",
      help: this.#help,
      samples: [...this.#entries.values()].flatMap(({ labels, counts, sum, count }) => [
        ...BUCKETS.map((le, i) => ["_bucket", { ...labels, le }, counts[i] ?? 0] as const),
        ["_bucket", { ...labels, le: "+Inf" }, count] as const,
        ["_sum", labels, sum] as const,
        ["_count", labels, count] as const,
      ]),
    };
  }
}
