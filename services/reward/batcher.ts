import type { Images, Reward, RewardInfo, ScoreOptions } from "../../rewards/mod.ts";
import { raceAbort } from "../../base/mod.ts";
import { StatusError } from "../rpc/mod.ts";
import { inChunks } from "./_in_chunks.ts";

/** Images that are still to be decoded, to float32 of that shape. */
export interface EncodedImages {
  readonly shape: Images["shape"];
  readonly decode: () => Promise<Images>;
}

/** Images of one size to score. */
export interface ScoreJob {
  /** float32 [B, 3, H, W], B at least 1. */
  readonly images: Images | EncodedImages;
  /** One per image. */
  readonly prompts: readonly string[];
  readonly gradient: boolean;
  /** Default "tensor"; see `ScoreOptions`. */
  readonly processing?: Processing;
}

/** How pixels are brought to the size a model takes. */
export type Processing = NonNullable<ScoreOptions["processing"]>;

/** What came of a job. */
export interface ScoredJob {
  /** float32 [B]. */
  readonly scores: Float32Array;
  /** In the images' shape; set when asked for. */
  readonly gradient?: Images;
  /** Images whose prompt was cut; see `RewardResult`. */
  readonly truncated: readonly number[];
  /** The reward that answered. */
  readonly info: RewardInfo;
  /** From submission to the first run. */
  readonly queueSeconds: number;
  /** Runs this job was part of. */
  readonly computeSeconds: number;
}

/** How much is run together and how much may wait. */
export interface Batching {
  /** Images run together. */
  readonly maxBatch: number;
  /** Images that may wait, those that are being decoded included. */
  readonly maxQueuedImages: number;
  /** Bytes of float32 pixels that may wait or be made of files. Decoding takes up to 7 bytes more for each 12. */
  readonly maxQueuedBytes: number;
}

/** 8 images together; 256 images in up to 512 MiB may wait. */
export const DEFAULT_BATCHING: Batching = {
  maxBatch: 8,
  maxQueuedImages: 256,
  maxQueuedBytes: 2 ** 29,
};

/**
 * Runs jobs on a reward one batch at a time. Jobs of equal image size that want the same run together, up to
 * `maxBatch` images; larger jobs run in parts. A job that fails never takes others with it: a failed batch of several
 * jobs is run again job by job.
 */
export class Batcher {
  readonly #reward: Reward;
  readonly #options: Batching;
  readonly #waiting = new Set<Entry>();
  /** What waits or is being decoded. */
  #queued: Room = { images: 0, bytes: 0 };
  readonly #decoding = new Set<Promise<unknown>>();
  #running: Promise<void> | undefined;

  constructor(reward: Reward, options: Partial<Batching> = {}) {
    this.#reward = reward;
    this.#options = { ...DEFAULT_BATCHING, ...options };
  }

  /** Images that wait or are being decoded. */
  get queuedImages(): number {
    return this.#queued.images;
  }

  /**
   * Queues a job, whose images are decoded when there is room for them. Rejects at once with RESOURCE_EXHAUSTED when it
   * does not fit, and with the signal's reason when that aborts: a waiting job then leaves the queue, one that runs is
   * abandoned, and one that is being decoded keeps its room until that ends.
   */
  async submit(job: ScoreJob, signal?: AbortSignal): Promise<ScoredJob> {
    signal?.throwIfAborted();
    const room = roomOf(job.images.shape);
    this.#admit(room);
    const { images } = job;
    const entry = "data" in images
      ? this.#enter({ ...job, images }, room)
      : await this.#decode({ ...job, images }, { room, signal });
    const abort = () => this.#leave(entry, signal?.reason);
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
    try {
      return await entry.promise;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Resolves when nothing is decoded, waits or runs. */
  async idle(): Promise<void> {
    while (this.#running || this.#decoding.size > 0) {
      await Promise.allSettled([this.#running, ...this.#decoding]);
    }
  }

  #admit(room: Room): void {
    const images = this.#queued.images + room.images;
    const bytes = this.#queued.bytes + room.bytes;
    const { maxQueuedImages, maxQueuedBytes } = this.#options;
    if (images > maxQueuedImages || bytes > maxQueuedBytes) {
      throw new StatusError(
        "RESOURCE_EXHAUSTED",
        `Queue of reward ${this.#reward.info.name} is full: ${this.#queued.images} images of ` +
          `${this.#queued.bytes} bytes wait, at most ${maxQueuedImages} of ${maxQueuedBytes} may; ` +
          `the job has ${room.images} of ${room.bytes}`,
      );
    }
    this.#queued = { images, bytes };
  }

  #release({ images, bytes }: Room): void {
    this.#queued = { images: this.#queued.images - images, bytes: this.#queued.bytes - bytes };
  }

  /** Queues a job whose room is taken. */
  #enter(job: DecodedJob, room: Room): Entry {
    const entry = new Entry(job, room);
    this.#waiting.add(entry);
    this.#running ??= this.#run();
    return entry;
  }

  /** Decodes and queues a job whose room is taken; gives that back where nothing comes of it. */
  async #decode(
    job: EncodedJob,
    { room, signal }: { readonly room: Room; readonly signal: AbortSignal | undefined },
  ): Promise<Entry> {
    const decoding = job.images.decode();
    this.#decoding.add(decoding);
    let entry: Entry | undefined;
    // Nobody stops a decoder: what an aborted caller asked for takes memory until it is done.
    const end = () => {
      this.#decoding.delete(decoding);
      if (!entry) this.#release(room);
    };
    try {
      const images = await raceAbort(decoding, signal);
      signal?.throwIfAborted();
      return entry = this.#enter({ ...job, images }, room);
    } finally {
      if (entry) end();
      else decoding.then(end, end);
    }
  }

  /** Takes an entry out of the queue, if it is still there, and settles it. */
  #leave(entry: Entry, reason: unknown): void {
    this.#take(entry);
    entry.reject(reason);
  }

  #take(entry: Entry): void {
    if (this.#waiting.delete(entry)) this.#release(entry.room);
  }

  async #run(): Promise<void> {
    // The jobs of one turn of the event loop may share the first batch.
    await Promise.resolve();
    for (let parts = this.#next(); parts.length > 0; parts = this.#next()) {
      try {
        await this.#score(parts);
      } catch (error) {
        if (parts.length === 1) this.#fail(parts, error);
        else {
          for (const part of parts) {
            await this.#score([part]).catch((error) => this.#fail([part], error));
          }
        }
      }
    }
    this.#running = undefined;
  }

  #fail(parts: readonly Part[], error: unknown): void {
    for (const { entry } of parts) this.#leave(entry, error);
  }

  /** The parts of the next batch: the oldest job, and what fits beside it. */
  #next(): Part[] {
    const parts: Part[] = [];
    let room = this.#options.maxBatch;
    let kind: string | undefined;
    for (const entry of this.#waiting) {
      if (room === 0) break;
      if (entry.kind !== (kind ??= entry.kind)) continue;
      const from = entry.taken;
      const to = Math.min(entry.size, from + room);
      entry.taken = to;
      room -= to - from;
      if (to === entry.size) this.#take(entry);
      parts.push({ entry, from, to });
    }
    return parts;
  }

  async #score(parts: readonly Part[]): Promise<void> {
    const start = performance.now();
    for (const { entry } of parts) entry.started ??= start;
    const { images, prompts, gradient, processing = "tensor" } = await joined(parts);
    const result = await this.#reward.score(images, prompts, { gradient, processing });
    const seconds = (performance.now() - start) / 1000;
    const width = images.data.length / prompts.length;
    let at = 0;
    const { info } = this.#reward;
    for (const { entry, from, to } of parts) {
      const end = at + to - from;
      entry.computeSeconds += seconds;
      entry.scores.set(result.scores.subarray(at, end), from);
      const gradient = result.gradient?.data.subarray(at * width, end * width);
      if (gradient) await entry.putGradient(gradient, from * width);
      for (const i of result.truncated ?? []) {
        if (i >= at && i < end) entry.truncated.push(from + i - at);
      }
      entry.info ??= info;
      if (entry.info.digest !== info.digest) this.#leave(entry, changed(info));
      else if (to === entry.size) entry.finish(info);
      at = end;
    }
  }
}

/** A share of what may wait. */
interface Room {
  readonly images: number;
  readonly bytes: number;
}

/** What float32 images of a shape take. */
function roomOf(shape: Images["shape"]): Room {
  const elements = shape.reduce((product, size) => product * size, 1);
  return { images: shape[0] ?? 0, bytes: elements * Float32Array.BYTES_PER_ELEMENT };
}

interface EncodedJob extends ScoreJob {
  readonly images: EncodedImages;
}

/** A job whose pixels are there. */
interface DecodedJob extends ScoreJob {
  readonly images: Images;
}

/** Images `from` up to `to` of a job. */
interface Part {
  readonly entry: Entry;
  readonly from: number;
  readonly to: number;
}

/** A job and what it has so far. */
class Entry {
  readonly size: number;
  /** Jobs of one kind can run together. */
  readonly kind: string;
  readonly scores: Float32Array;
  /** What has come of it, where it is wanted. */
  gradient: Float32Array | undefined;
  readonly truncated: number[] = [];
  readonly promise: Promise<ScoredJob>;
  readonly reject: (reason: unknown) => void;
  /** Images given to a batch. */
  taken = 0;
  started: number | undefined;
  computeSeconds = 0;
  /** The reward that ran the first part. */
  info: RewardInfo | undefined;
  readonly #resolve: (scored: ScoredJob) => void;
  readonly #submitted = performance.now();

  constructor(readonly job: DecodedJob, readonly room: Room) {
    const [size = 0, ...rest] = job.images.shape;
    this.size = size;
    this.kind = `${job.gradient} ${job.processing ?? "tensor"} ${rest.join("x")}`;
    this.scores = new Float32Array(size);
    const { promise, resolve, reject } = Promise.withResolvers<ScoredJob>();
    this.promise = promise;
    this.#resolve = resolve;
    this.reject = reject;
  }

  /** Takes the part of the gradient that begins at `from`. That of a job which ran whole is not copied. */
  async putGradient(part: Float32Array, from: number): Promise<void> {
    const { length } = this.job.images.data;
    if (part.length === length) this.gradient = part;
    else await copyInChunks(part, { to: this.gradient ??= new Float32Array(length), at: from });
  }

  finish(info: RewardInfo): void {
    const { images } = this.job;
    this.#resolve({
      scores: this.scores,
      ...(this.gradient && { gradient: { ...images, data: this.gradient } }),
      truncated: this.truncated,
      info,
      queueSeconds: ((this.started ?? this.#submitted) - this.#submitted) / 1000,
      computeSeconds: this.computeSeconds,
    });
  }
}

/** After a restart with other weights the parts of a job would not belong together. */
function changed({ name }: RewardInfo): StatusError {
  return new StatusError("UNAVAILABLE", `Weights of reward ${name} changed, try again`);
}

/** Copies values to where they belong in others. */
function copyInChunks(
  values: Float32Array,
  { to, at }: { readonly to: Float32Array; readonly at: number },
): Promise<void> {
  return inChunks(values.length, (from, end) => to.set(values.subarray(from, end), at + from));
}

/** The parts as one job. A part that is a whole job alone is not copied. */
async function joined(parts: readonly Part[]): Promise<DecodedJob> {
  const [first] = parts;
  if (!first) throw new RangeError("A batch has at least one part");
  const { entry: { job, size }, from, to } = first;
  if (parts.length === 1 && to - from === size) return job;
  const width = job.images.data.length / size;
  const count = parts.reduce((sum, part) => sum + part.to - part.from, 0);
  const data = new Float32Array(count * width);
  const prompts: string[] = [];
  for (const { entry, from, to } of parts) {
    const part = entry.job.images.data.subarray(from * width, to * width);
    await copyInChunks(part, { to: data, at: prompts.length * width });
    prompts.push(...entry.job.prompts.slice(from, to));
  }
  const shape = [count, ...job.images.shape.slice(1)];
  return { ...job, images: { dtype: "float32", shape, data }, prompts };
}
