import type { NatsConnection } from "@nats-io/transport-node";
import type { Blob, Job, RunOrders } from "../../proto/mod.ts";
import type { SessionOptions } from "../../runtime/mod.ts";
import {
  type AdaptedDenoiser,
  computeShard,
  type Float32Tensor,
  type OpenedModel,
  openRunModel,
  parseConfig,
  parseRunConfig,
  PromptsAhead,
  type RewardClient,
  RewardMixture,
  rewardMixtureSchema,
  type RewardTerm,
  type RunConfig,
  type ShardResult,
  shardsOf,
} from "../../trainer/mod.ts";
import { fetchBlob } from "../cluster/mod.ts";
import { connectReward } from "../reward_client/mod.ts";
import type { ClientTls } from "../rpc/mod.ts";
import { AdaptedModel } from "./adapted_model.ts";
import { LoraCache } from "./lora_cache.ts";

/** What a session needs of its worker. */
export interface SessionSettings {
  readonly nats: NatsConnection;
  /** Folder of models. */
  readonly models: string;
  readonly session: SessionOptions;
  /** Bytes that running models may take. */
  readonly memoryBytes: number;
  /** For rewards at "grpcs://" addresses. */
  readonly rewardTls: ClientTls;
}

/** Bytes of a run's configuration, prompts included: messages to the trainer are no longer. */
const MAX_CONFIG = 2 ** 27;

/** Thrown where this worker cannot compute for a run; the message says why. */
export class UnfitError extends Error {
  override readonly name = "UnfitError";
}

/** A run that is opened to compute its shards. */
export interface ShardSession {
  /**
   * Computes the shard of a job. Throws `UnavailableError` where a reward does not answer, and `BlobError` where the LoRA
   * cannot be had.
   */
  compute(job: Job): Promise<ShardResult>;
  close(): Promise<void>;
}

/** A run has no more. */
const MOST_ITERATIONS = 2 ** 21 - 1;

/** A run's model. */
export class RunSession implements ShardSession {
  readonly #config: RunConfig;
  readonly #opened: OpenedModel;
  readonly #settings: SessionSettings;
  readonly #ahead: PromptsAhead;
  readonly #loras: LoraCache;
  readonly #trained: AdaptedModel;
  readonly #reference: AdaptedModel;
  /** By address, name and digest. */
  readonly #rewards = new Map<string, Promise<RewardClient>>();
  #frozen: AdaptedDenoiser | undefined;

  private constructor(config: RunConfig, opened: OpenedModel, settings: SessionSettings) {
    this.#config = config;
    this.#opened = opened;
    this.#settings = settings;
    this.#ahead = new PromptsAhead(opened.model, {
      config,
      isInterrupted: () => false,
      say: () => Promise.resolve(),
    });
    this.#loras = new LoraCache(settings.nats);
    this.#trained = new AdaptedModel(opened.model, this.#loras);
    this.#reference = new AdaptedModel(opened.model, this.#loras);
  }

  /**
   * Opens a run's model and verifies its weights. Throws `UnfitError` where this worker is not for the run, and
   * `BlobError` where the run's configuration cannot be had.
   */
  static async open(
    { config: blob, modelSha256 }: RunOrders,
    settings: SessionSettings,
  ): Promise<RunSession> {
    const { nats, models: root, session, memoryBytes } = settings;
    if (blob === undefined) throw new UnfitError("The run has no configuration");
    const text = new TextDecoder().decode(await fetchBlob(nats, blob, { maxBytes: MAX_CONFIG }));
    const config = readConfig(text);
    const { model, memoryLimit = 0 } = config;
    const gib = memoryBytes / 2 ** 30;
    if (memoryLimit > gib) {
      throw new UnfitError(`The run may take ${memoryLimit} GiB, and ${gib.toFixed(1)} are here`);
    }
    const opened = await openRunModel(config, { root, session }).catch((cause) => {
      throw new UnfitError(`Model ${model} cannot be opened: ${wordsOf(cause)}`, { cause });
    });
    try {
      const found = await opened.model.digest().catch((cause) => {
        throw new UnfitError(`Model ${model} cannot be read: ${wordsOf(cause)}`, { cause });
      });
      if (found === modelSha256) return new RunSession(config, opened, settings);
      throw new UnfitError(`Model ${model} has sha256 ${found}, expected ${modelSha256}`);
    } catch (error) {
      await opened.release();
      throw error;
    }
  }

  async compute({ iteration, index, lora, reference, rewards }: Job): Promise<ShardResult> {
    const shard = shardsOf(this.#config)[index];
    if (shard === undefined || lora === undefined) {
      throw new RangeError(`Job ${index} of iteration ${iteration} is no shard of the run`);
    }
    // A run that was resumed with more iterations has more than its configuration says.
    const { iterations } = this.#config;
    await this.#ahead.prepare(iteration - 1, iteration > iterations ? MOST_ITERATIONS : iterations);
    const denoiser = await this.#trained.with(lora);
    const frozen = this.#config.drift.weight > 0
      ? await (reference ? this.#reference.with(reference) : this.#untrained(lora))
      : undefined;
    const mixture = parseConfig(rewardMixtureSchema, JSON.parse(rewards));
    const before = await this.#opened.cpuSeconds?.() ?? 0;
    const result = await computeShard(this.#opened, {
      ...{ config: this.#config, iteration, shard, denoiser, frozen },
      reward: { evaluate: (images, prompts) => this.#evaluate(mixture, { images, prompts }) },
    });
    return { ...result, cpuSeconds: (await this.#opened.cpuSeconds?.() ?? 0) - before };
  }

  async close(): Promise<void> {
    await this.#forgetRewards();
    await this.#opened.release();
  }

  /** The model without LoRA. */
  async #untrained(lora: Blob): Promise<AdaptedDenoiser> {
    const { model } = this.#opened;
    return this.#frozen ??= await model.adapt(await this.#loras.get(lora), { scale: 0 });
  }

  async #evaluate(
    terms: readonly RewardTerm[],
    { images, prompts }: { readonly images: Float32Tensor; readonly prompts: readonly string[] },
  ) {
    try {
      const clients = await Promise.all(
        terms.map(async (term) => ({ term, client: await this.#reward(term) })),
      );
      const { combine } = this.#config;
      return await new RewardMixture(clients, { combine }).evaluate(images, prompts);
    } catch (error) {
      // What comes back may be another: it is asked for its facts again.
      await this.#forgetRewards();
      throw error;
    }
  }

  #reward(term: RewardTerm): Promise<RewardClient> {
    const key = JSON.stringify([term.endpoint, term.reward, term.expectedDigest]);
    const known = this.#rewards.get(key) ?? connectReward(term, { tls: this.#settings.rewardTls });
    this.#rewards.set(key, known);
    return known;
  }

  async #forgetRewards(): Promise<void> {
    const clients = [...this.#rewards.values()];
    this.#rewards.clear();
    await Promise.all(clients.map((one) => one.then((client) => client.close(), () => {})));
  }
}

function readConfig(text: string): RunConfig {
  try {
    return parseRunConfig(JSON.parse(text));
  } catch (cause) {
    throw new UnfitError(`The run's configuration: ${wordsOf(cause)}`, { cause });
  }
}

const wordsOf = (cause: unknown) => cause instanceof Error ? cause.message : String(cause);
