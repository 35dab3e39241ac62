import { scaled } from "../optim/mod.ts";
import { accumulate, type Float32Tensor, type Parameters } from "../tensors.ts";
import type { RunConfig } from "./run_config.ts";
import type { RewardMetrics } from "./run_events.ts";
import { type ShardResult, shardsOf } from "./shard.ts";

/** Sums the shards of an iteration in their order, whatever the order in which they arrive. */
export class ShardSum {
  readonly #config: RunConfig;
  readonly #shards: ReturnType<typeof shardsOf>;
  /** Results that wait for an earlier one. */
  readonly #early = new Map<number, ShardResult>();
  readonly #gradients: Record<string, Float32Tensor> = {};
  readonly #scores = new Map<string, { values: number[]; digest: string }>();
  readonly #seconds: Record<string, number> = {};
  readonly #workers: string[] = [];
  #cpuSeconds = 0;
  #summed = 0;
  #loss = 0;
  #drift: number | undefined;

  constructor(config: RunConfig) {
    this.#config = config;
    this.#shards = shardsOf(config);
  }

  /** Takes the result of shard `index`. Throws `RangeError` for one that was taken before. */
  add(index: number, result: ShardResult): void {
    if (index < this.#summed || this.#early.has(index) || index >= this.#shards.length) {
      throw new RangeError(`Shard ${index} of ${this.#shards.length} was not expected`);
    }
    this.#early.set(index, result);
    for (;;) {
      const next = this.#early.get(this.#summed);
      if (next === undefined) return;
      this.#early.delete(this.#summed);
      this.#fold(next);
      this.#summed++;
    }
  }

  /** The sum over batches; within a batch the mean over images. Throws where a shard is missing. */
  total() {
    if (this.#summed < this.#shards.length) {
      throw new RangeError(`Shard ${this.#summed} of ${this.#shards.length} is missing`);
    }
    const rewards = Object.fromEntries(
      [...this.#scores].map(([name, { values, digest }]): [string, RewardMetrics] => [
        name,
        { mean: values.reduce((x, y) => x + y, 0) / values.length, perImage: values, digest },
      ]),
    );
    const [gradients, seconds]: [Parameters, Record<string, number>] = [
      this.#gradients,
      this.#seconds,
    ];
    return {
      ...{ gradients, rewards, seconds, loss: this.#loss },
      ...(this.#drift !== undefined && { drift: this.#drift }),
      ...(this.#workers.length > 0 && { workers: this.#workers, cpuSeconds: this.#cpuSeconds }),
    };
  }

  #fold({ gradients, loss, rewards, drift, seconds, cpuSeconds = 0, worker }: ShardResult): void {
    const { batch: { size, accumulation }, drift: { weight } } = this.#config;
    const { start = 0, end = 0 } = this.#shards[this.#summed] ?? {};
    const share = (end - start) / size;
    accumulate(this.#gradients, scaled(gradients, share));
    this.#loss += share * (loss + weight * (drift ?? 0)) / accumulation;
    if (drift !== undefined) this.#drift = (this.#drift ?? 0) + share * drift / accumulation;
    for (const [name, { perImage, digest }] of Object.entries(rewards)) {
      const values = [...this.#scores.get(name)?.values ?? [], ...perImage];
      // Where weights change within an iteration, those that answered last are what the next one starts with.
      this.#scores.set(name, { values, digest });
    }
    for (const [phase, s] of Object.entries(seconds)) {
      this.#seconds[phase] = (this.#seconds[phase] ?? 0) + s;
    }
    this.#cpuSeconds += cpuSeconds;
    if (worker !== undefined) this.#workers.push(worker);
  }
}
