import type { Labels, MetricFamily } from "./metric_family.ts";

/** Something that is counted, or only ever grows, by labels. */
export class Counter {
  readonly #name: string;
  readonly #help: string;
  readonly #values = new Map<string, { readonly labels: Labels; value: number }>();

  constructor(name: string, help: string) {
    [this.#name, this.#help] = [name, help];
  }

  add(labels: Labels, amount = 1): void {
    const key = JSON.stringify(labels);
    const entry = this.#values.get(key) ?? { labels, value: 0 };
    entry.value += amount;
    this.#values.set(key, entry);
  }

  family(): MetricFamily {
    return {
      name: this.#name,
      type: "counter",
      help: this.#help,
      samples: [...this.#values.values()].map(({ labels, value }) => ["", labels, value]),
    };
  }
}
