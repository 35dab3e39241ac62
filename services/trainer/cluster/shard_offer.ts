import { create, toBinary } from "@bufbuild/protobuf";
import { errors } from "@nats-io/transport-node";
import type { Tensor } from "../../../autodiff/mod.ts";
import { cut, raceAbort } from "../../../base/mod.ts";
import { decodeSafetensors } from "../../../models/weights/mod.ts";
import {
  type Blob,
  type JobResult,
  JobSchema,
  type ShardValue,
  Verdict,
} from "../../../proto/mod.ts";
import {
  type Float32Tensor,
  type OfferedShards,
  type Parameters,
  type ShardResult,
  type ShardWork,
  UnavailableError,
} from "../../../trainer/mod.ts";
import { BlobError, CONTRACT_VERSION, type JobStream } from "../../cluster/mod.ts";
import type { WorkerTable } from "./worker_table.ts";

/** A job that so many workers failed at is at fault itself. */
const MOST_WORKERS = 3;
/** Characters of what a worker says: a run that fails tells them. */
const MAX_TEXT = 1000;
/** An iteration has a tenth as many. */
const MAX_PHASES = 100;
/** Without a worker for this long an iteration is told to wait, in milliseconds. */
const PATIENCE_MS = 5_000;
/** Between two looks at the workers, in milliseconds. */
const LOOK_MS = 500;
/** Between two looks at the queue, in milliseconds. */
const COUNT_MS = 10_000;
/** Jobs that are published at a time. */
const PUBLISHED_AT_ONCE = 64;

/** What an offer needs of its trainer. */
export interface OfferOptions {
  /** Counts the offers of this epoch. */
  readonly number: number;
  readonly runId: string;
  readonly jobs: Pick<JobStream, "prepare" | "publish" | "count" | "distrust">;
  readonly workers: Pick<WorkerTable, "done" | "whyNone" | "isIdle">;
  /** The LoRA that the iteration begins with, kept for workers to ask for. */
  readonly lora: Promise<Blob>;
  /** What drift is measured from, likewise. */
  readonly reference: Promise<Blob> | undefined;
  /** Fetches what a worker keeps, of at most so many bytes. */
  readonly fetch: (blob: Blob, maxBytes: number) => Promise<Uint8Array>;
  /** Told of the hardware that computed a shard. */
  readonly computedOn: (worker: string, hardware: string) => void;
  /** Told of a worker's fault. */
  readonly onFault: (fault: { worker: string; message: string; index: number }) => void;
  readonly onWithdrawn: (offer: ShardOffer) => Promise<void>;
}

/** The shards of one iteration as jobs. */
export class ShardOffer implements OfferedShards {
  readonly #work: ShardWork;
  readonly #options: OfferOptions;
  /** Shards without a result: who failed at them. */
  readonly #pending: Map<number, Set<string>>;
  readonly #published = new Set<number>();
  /** Results whose tensors are on their way. */
  readonly #arriving = new Map<number, Promise<void>>();
  /** How often jobs were published anew, after the queue had lost them. */
  #again = 0;
  #counted = performance.now();
  /** Whether workers waited when the queue was looked at last. */
  #wasIdle = false;
  /** Whether the queue did not answer when it was looked at last. */
  #wasSlow = false;
  /** What the next who waits is told. */
  #trouble: Error | undefined;
  #changed = Promise.withResolvers<void>();

  constructor(work: ShardWork, options: OfferOptions) {
    this.#work = work;
    this.#options = options;
    this.#pending = new Map(work.shards.map((_, index) => [index, new Set()]));
  }

  get number(): number {
    return this.#options.number;
  }

  async taken(signal: AbortSignal): Promise<void> {
    let heard = performance.now();
    while (this.#pending.size > 0) {
      signal.throwIfAborted();
      const trouble = this.#trouble;
      this.#trouble = undefined;
      if (trouble !== undefined) throw trouble;
      await this.#publish();
      const none = this.#options.workers.whyNone();
      if (none === undefined) heard = performance.now();
      else if (performance.now() - heard > PATIENCE_MS) throw new UnavailableError(none);
      const { promise } = this.#changed;
      const timer = setTimeout(() => this.#change(), LOOK_MS);
      await raceAbort(promise, signal).finally(() => clearTimeout(timer));
    }
  }

  async withdraw(): Promise<void> {
    await this.#options.onWithdrawn(this);
  }

  /** Takes in what came of a job, and answers what becomes of its message. */
  async result(
    { index, worker: name, hardware: found, outcome }: JobResult,
  ): Promise<Verdict> {
    const [worker, hardware] = [cut(name, MAX_TEXT), cut(found, MAX_TEXT)];
    // Another worker that had the same job was first.
    await this.#arriving.get(index);
    const failed = this.#pending.get(index);
    if (failed === undefined) return Verdict.DONE;
    switch (outcome.case) {
      case "value": {
        const { value } = outcome;
        const arriving = this.#take(index, { value, worker });
        this.#arriving.set(index, arriving.catch(() => {}));
        try {
          await arriving;
        } catch (error) {
          // Its worker has gone, or lost the connection.
          if (error instanceof BlobError) return Verdict.AGAIN;
          const message = error instanceof Error ? error.message : String(error);
          this.#fault({ index, worker, message });
          return Verdict.AGAIN;
        } finally {
          this.#arriving.delete(index);
        }
        this.#options.workers.done(worker);
        this.#options.computedOn(worker, hardware);
        this.#change();
        return Verdict.DONE;
      }
      case "fault":
        this.#failed(cut(outcome.value.message, MAX_TEXT), {
          ...{ index, worker },
          rewardAway: outcome.value.rewardAway,
        });
        this.#change();
        return Verdict.AGAIN;
      case undefined:
        return Verdict.AGAIN;
    }
  }

  #failed(
    message: string,
    { rewardAway, ...job }: { index: number; worker: string; rewardAway: boolean },
  ): void {
    if (rewardAway) this.#trouble ??= new UnavailableError(message);
    else this.#fault({ ...job, message });
  }

  #fault(fault: { index: number; worker: string; message: string }): void {
    const failed = this.#pending.get(fault.index)?.add(fault.worker);
    this.#options.onFault(fault);
    if (failed === undefined || failed.size < MOST_WORKERS) return;
    this.#trouble = new Error(
      `Shard ${fault.index} of iteration ${this.#work.iteration} failed on workers ` +
        `${[...failed].join(", ")}: ${fault.message}`,
    );
  }

  async #take(
    index: number,
    { value, worker }: { readonly value: ShardValue; readonly worker: string },
  ): Promise<void> {
    const { gradients: blob, loss, rewards, drift, seconds, cpuSeconds } = value;
    if (blob === undefined) throw new TypeError("Its result has no gradients");
    const { parameters, rewards: terms, shards } = this.#work;
    const shard = shards[index];
    checkValue({ value, names: terms.map((term) => term.name) }, shard && shard.end - shard.start);
    const most = mostBytes(parameters);
    if (blob.size > most) {
      throw new RangeError(`Its gradients have ${blob.size} bytes, expected at most ${most}`);
    }
    const bytes = await this.#options.fetch(blob, most);
    const { tensors } = decodeSafetensors(bytes, "a shard's gradients");
    const result: ShardResult = {
      gradients: checkGradients(tensors, parameters),
      loss,
      rewards,
      ...(drift !== undefined && { drift }),
      ...{ seconds, cpuSeconds, worker },
    };
    // Withdrawn meanwhile, or taken from another.
    if (!this.#pending.delete(index)) return;
    this.#work.take(index, result);
  }

  async #publish(): Promise<void> {
    const { jobs, number, runId } = this.#options;
    const { iteration, rewards } = this.#work;
    try {
      if (performance.now() - this.#counted > COUNT_MS) {
        this.#counted = performance.now();
        await this.#checkQueue();
      }
      if (await jobs.prepare()) this.#published.clear();
      const [lora, reference] = await Promise.all([this.#options.lora, this.#options.reference]);
      const missing = [...this.#pending.keys()].filter((index) => !this.#published.has(index));
      for (let at = 0; at < missing.length; at += PUBLISHED_AT_ONCE) {
        await Promise.all(
          missing.slice(at, at + PUBLISHED_AT_ONCE).map(async (index) => {
            const job = create(JobSchema, {
              ...{ version: CONTRACT_VERSION, offer: number, runId, iteration, index, lora },
              rewards: JSON.stringify(rewards),
              ...(reference && { reference }),
            });
            await jobs.publish(`${number}.${index}.${this.#again}`, toBinary(JobSchema, job));
            this.#published.add(index);
          }),
        );
      }
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      // A full queue has room again when some are done.
      if ([...this.#published].some((index) => this.#pending.has(index))) return;
      throw new UnavailableError(`The queue takes no jobs: ${message}`, { cause });
    }
  }

  /** Publishes jobs anew that a server lost before it wrote them, or that it has and hands out to nobody. */
  async #checkQueue(): Promise<void> {
    const { jobs, workers } = this.#options;
    const isStuck = this.#wasIdle && workers.isIdle;
    this.#wasIdle = workers.isIdle;
    if (this.#arriving.size > 0) return;
    const count = await this.#count();
    if (count === 0 || count === "gone") this.#published.clear();
    else if (!isStuck) return;
    if (count !== 0) jobs.distrust();
    this.#again++;
  }

  /** Jobs in the queue; "gone" where it cannot tell. One that is slow for once may have them all. */
  async #count(): Promise<number | "gone" | "slow"> {
    try {
      const count = await this.#options.jobs.count();
      this.#wasSlow = false;
      return count;
    } catch (error) {
      const isFirst = !this.#wasSlow;
      this.#wasSlow = error instanceof errors.TimeoutError;
      return this.#wasSlow && isFirst ? "slow" : "gone";
    }
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}

/** Bytes of a safetensors file of these parameters, with room for its header. */
function mostBytes(parameters: Parameters): number {
  const all = Object.entries(parameters);
  return all.reduce(
    (sum, [name, { data }]) => sum + data.byteLength + 3 * name.length + 200,
    2 ** 16,
  );
}

/**
 * Throws `RangeError` for numbers that are not finite, which no event may hold, and for other rewards than the run's or
 * other images than the shard's.
 */
function checkValue(
  { value, names }: { readonly value: ShardValue; readonly names: readonly string[] },
  images: number | undefined,
): void {
  const { loss, rewards, drift = 0, seconds, cpuSeconds } = value;
  const found = Object.keys(rewards);
  if (found.toSorted().join("\n") !== names.toSorted().join("\n")) {
    const shown = cut(found.join(", "), 200);
    throw new RangeError(`Its rewards are ${shown || "none"}, expected ${names.join(", ")}`);
  }
  for (const [name, { perImage }] of Object.entries(rewards)) {
    if (perImage.length === images) continue;
    throw new RangeError(`Reward ${name} has ${perImage.length} values, expected ${images}`);
  }
  const numbers = Object.values(rewards).flatMap(({ perImage }) => perImage);
  const times = [cpuSeconds, ...Object.values(seconds)];
  if (![loss, drift, ...numbers, ...times].every(Number.isFinite)) {
    throw new RangeError("Its result has a number that is not finite");
  }
  if (times.some((time) => time < 0) || times.length > MAX_PHASES) {
    throw new RangeError(`Its times are none of at most ${MAX_PHASES} phases`);
  }
}

/** Throws `RangeError` for what is not a gradient of these parameters. */
function checkGradients(
  tensors: Readonly<Record<string, Tensor>>,
  parameters: Parameters,
): Record<string, Float32Tensor> {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => {
      const expected = parameters[name]?.shape;
      if (tensor.dtype === "float32" && expected?.join() === tensor.shape.join()) {
        return [name, tensor];
      }
      throw new RangeError(
        `Gradient "${name}" is ${tensor.dtype} [${tensor.shape}], expected ` +
          (expected === undefined ? "none of this name" : `float32 [${expected}]`),
      );
    }),
  );
}
