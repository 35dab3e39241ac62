import { RewardService } from "../../proto/mod.ts";
import {
  DataType,
  Direction,
  Processing,
  type RewardDescription,
  type Tensor,
} from "../../proto/mod.ts";
import {
  type Images,
  type Reward,
  type RewardInfo,
  type RewardResult,
  type ScoreOptions,
} from "../../rewards/mod.ts";
import { StatusError } from "./errors.ts";
import type { CallOptions, GrpcClient, GrpcClientOptions } from "./grpc_client.ts";
import { DEFAULT_MAX_MESSAGE_BYTES } from "./grpc_server.ts";
import type { LookUp } from "./replica_addresses.ts";
import { ReplicaPool } from "./replica_pool.ts";

/** How a reward on a server is reached. */
export interface RemoteRewardOptions extends GrpcClientOptions {
  /** Name of the reward there; empty for the server's default. */
  readonly reward?: string;
  /** sha256 (hex) its weights must have: an answer that carries another one is refused. */
  readonly expectedDigest?: string;
  /** Deadline of one call, retries included. Default 60,000 ms. */
  readonly timeoutMs?: number;
  /** Deadline of the first call, which asks for the reward's facts. Default: as the others'. */
  readonly connectMs?: number;
  /** Ends the connecting. */
  readonly signal?: AbortSignal;
  /** Told, once each, of replicas that are not asked since their weights are not those of the others. */
  readonly onSetAside?: (message: string) => void;
  /** How names are looked up. Default: by the system. */
  readonly lookUp?: LookUp;
  /** See `ReplicaPoolOptions`. */
  readonly watchMs?: number;
}

/** How often a batch is asked for while the weights change under it. */
const TRIES = 5;

/** Bytes of a request or an answer beside its images and prompts, and beside an image's own numbers, at most. */
const [MESSAGE_BYTES, IMAGE_BYTES] = [4096, 32];

/** Rest of a connection before it is closed. */
const SETTLE_MS = 50;

/** How long replicas are waited for when one of them has answered, in milliseconds. */
const SETTLE_REPLICAS_MS = 1000;

type Client = GrpcClient<typeof RewardService>;

/**
 * A reward behind `drtune.reward.v1.RewardService`, with the interface of one in this process. Where replicas serve it,
 * the images of a batch are divided among them; each image's answer stands where the image stood.
 */
export class RemoteReward implements Reward {
  #info: RewardInfo;
  readonly #pool: ReplicaPool<typeof RewardService>;
  readonly #options: RemoteRewardOptions;
  #limits: RequestLimits;

  private constructor(
    pool: ReplicaPool<typeof RewardService>,
    description: RewardDescription,
    options: RemoteRewardOptions,
  ) {
    this.#info = infoOf(description);
    this.#pool = pool;
    this.#options = options;
    this.#limits = limitsOf(description, options);
  }

  /**
   * Connects to "host:port" or "grpcs://host:port", or to replicas as `parseReplicaAddresses` reads them, and asks for
   * the reward's facts. Throws `StatusError`: UNAVAILABLE where nothing answers within the deadline, NOT_FOUND,
   * FAILED_PRECONDITION for another digest than expected, or where no digest is expected and replicas disagree.
   */
  static async connect(endpoint: string, options: RemoteRewardOptions = {}): Promise<RemoteReward> {
    const { reward = "", expectedDigest = "" } = options;
    const facts = async (client: Client, call: CallOptions) => {
      const { rewards, defaultReward } = await client.describe({ reward }, call);
      const wanted = reward || defaultReward;
      const found = rewards.find(({ name }) => name === wanted);
      if (found !== undefined) return found;
      throw new StatusError(
        "INVALID_ARGUMENT",
        `${endpoint} serves ${rewards.map((r) => r.name).join(", ") || "no reward"}: name one`,
      );
    };
    const pool = new ReplicaPool(RewardService, endpoint, {
      retry: { attempts: 100 },
      ...options,
      probe: async (client, call) => (await facts(client, call)).digest,
    });
    try {
      const answers = await pool.askAll(facts, {
        timeoutMs: options.connectMs ?? options.timeoutMs ?? 60_000,
        ...(options.signal && { signal: options.signal }),
        settleMs: SETTLE_REPLICAS_MS,
        version: ({ digest }) => digest,
      });
      const expected = answers.find(({ answer }) => answer.digest === expectedDigest);
      const { answer } = expected ?? answers[0];
      if (expectedDigest === "") {
        checkAgreement(answers.map(({ address, answer }) => [address, answer]));
      }
      checkDigest(answer.digest, expectedDigest, `${answer.name} at ${endpoint}`);
      pool.prefer(answer.digest);
      return new RemoteReward(pool, answer, { ...options, reward: answer.name });
    } catch (error) {
      pool.close();
      throw error;
    }
  }

  /** Its facts, as of the last answer: the weights on the server may change. */
  get info(): RewardInfo {
    return this.#info;
  }

  /** Asks for its facts again, which a server that computes answers at once. Throws `StatusError`. */
  async refresh(
    call: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): Promise<RewardInfo> {
    const { name } = this.#info;
    const facts = async (client: Client, call: CallOptions) => {
      const { rewards } = await client.describe({ reward: name }, call);
      const found = rewards.find((reward) => reward.name === name);
      if (found !== undefined) return found;
      throw new StatusError("NOT_FOUND", `Reward "${name}" is no longer served`);
    };
    const answers = await this.#pool.askAll(facts, {
      ...call,
      settleMs: 0,
      version: ({ digest }) => digest,
    });
    const current = answers.find(({ answer }) => answer.digest === this.#pool.version);
    const { answer } = current ?? answers[0];
    checkDigest(answer.digest, this.#options.expectedDigest, answer.name);
    this.#limits = limitsOf(answer, this.#options);
    return this.#info = infoOf(answer);
  }

  /**
   * Where other weights answer than those whose facts are known, their facts are asked for, and the batch again where
   * they read other prompts or answered only a part of it.
   */
  async score(
    images: Images,
    prompts: readonly string[],
    options: ScoreOptions = {},
  ): Promise<RewardResult> {
    for (let left = TRIES;; left--) {
      const known = this.#info;
      const { digests, ...result } = await this.#ask(images, prompts, options);
      const [digest = known.digest, ...others] = digests;
      const answered = { ...result, digest };
      if (others.length === 0 && (digest === known.digest || digest === "")) {
        return { ...result, digest: known.digest };
      }
      const { digest: present, readsPrompt } = await this.refresh({
        timeoutMs: this.#options.timeoutMs ?? 60_000,
        ...(options.signal && { signal: options.signal }),
      });
      const isWhole = others.length === 0 && readsPrompt === known.readsPrompt;
      if (isWhole && (present === digest || left === 1)) return answered;
      if (left === 1) {
        throw new StatusError("ABORTED", `The weights of ${known.name} change with every answer`);
      }
    }
  }

  /** One try, and the digests of the weights that answered its parts. */
  async #ask(
    images: Images,
    prompts: readonly string[],
    options: ScoreOptions,
  ): Promise<RewardResult & { readonly digests: ReadonlySet<string> }> {
    const [batch = 0, ...size] = images.shape;
    const width = size.reduce((a, b) => a * b, 1);
    const scores = new Float32Array(batch);
    const gradient = options.gradient ? new Float32Array(images.data.length) : undefined;
    const cut: number[] = [];
    const digests = new Set<string>();
    // A server that starts again may change both while this call waits.
    const [{ name, readsPrompt }, limits] = [this.#info, this.#limits];
    const maxImages = mostImages(limits, { name, size, prompts: readsPrompt ? prompts : [] });
    const failed = new AbortController();
    const call = {
      timeoutMs: this.#options.timeoutMs ?? 60_000,
      signal: options.signal ? AbortSignal.any([options.signal, failed.signal]) : failed.signal,
    };
    const askPart = async (at: number, end: number) => {
      const shape = [end - at, ...size];
      const part = images.data.subarray(at * width, end * width);
      const tensor = { dtype: DataType.FLOAT32, shape, data: bytesOf(part) };
      const request = {
        reward: name,
        images: [{ source: { case: "tensor" as const, value: tensor } }],
        prompts: readsPrompt ? prompts.slice(at, end) : [],
      };
      const take = (answer: Answer) => {
        this.#check(answer, end - at);
        scores.set(answer.scores, at);
        cut.push(...answer.truncatedPrompts.map((i) => at + i));
        digests.add(answer.digest);
      };
      const digestOf = ({ digest }: Answer) => digest;
      if (gradient === undefined) {
        const processing = options.processing === "reference"
          ? Processing.REFERENCE
          : Processing.TENSOR;
        const score = (client: Client, call: CallOptions) =>
          client.score({ ...request, processing }, call);
        take(await this.#pool.ask(score, call, digestOf));
      } else {
        const scoreAndGradient = (client: Client, call: CallOptions) =>
          client.scoreAndGradient(request, call);
        const answer = await this.#pool.ask(scoreAndGradient, call, digestOf);
        take(answer);
        const data = gradientOf(answer.gradients[0], { name, shape });
        new Uint8Array(gradient.buffer, at * width * 4, data.byteLength).set(data);
      }
    };
    const lanes = this.#pool.width;
    const parts = partsOf(batch, { atLeast: lanes, maxImages }).values();
    try {
      // Each lane takes the next part when it is done with one: a quick replica takes more of them.
      await Promise.all(Array.from({ length: lanes }, async () => {
        for (const [at, end] of parts) await askPart(at, end);
      }));
    } catch (error) {
      failed.abort(error);
      throw error;
    }
    cut.sort((a, b) => a - b);
    return {
      scores,
      digests,
      ...(cut.length > 0 && { truncated: cut }),
      ...(gradient && { gradient: { dtype: "float32", shape: images.shape, data: gradient } }),
    };
  }

  async dispose(): Promise<void> {
    // Deno 2.9's HTTP/2 server can crash when a connection closes right behind a large answer.
    await new Promise<void>((resolve) => setTimeout(resolve, SETTLE_MS));
    this.#pool.close();
  }

  #check(answer: Answer, count: number): void {
    checkDigest(answer.digest, this.#options.expectedDigest, this.info.name);
    if (answer.scores.length !== count) {
      throw new StatusError(
        "INTERNAL",
        `${this.info.name} answered ${answer.scores.length} scores for ${count} images`,
      );
    }
  }
}

/** Where the parts of a batch begin and end: at least so many, of nearly equal size, none above `maxImages`. */
function partsOf(
  batch: number,
  { atLeast, maxImages }: { readonly atLeast: number; readonly maxImages: number },
): readonly (readonly [number, number])[] {
  const count = Math.min(batch, Math.max(atLeast, Math.ceil(batch / maxImages)));
  const end = (i: number) => Math.floor(i * batch / count);
  return Array.from({ length: count }, (_, i) => [end(i), end(i + 1)] as const);
}

/** What one request may hold, and one message either way. */
interface RequestLimits {
  readonly images: number;
  readonly pixels: number;
  readonly bytes: number;
}

/** Those of the server, where it tells any, and of this client's messages. */
function limitsOf(
  { limits }: RewardDescription,
  { maxMessageBytes = DEFAULT_MAX_MESSAGE_BYTES }: GrpcClientOptions,
): RequestLimits {
  return {
    images: Math.max(1, limits?.maxImages ?? 1),
    pixels: limits?.maxPixels || Infinity,
    bytes: Math.min(maxMessageBytes, limits?.maxMessageBytes || Infinity),
  };
}

/**
 * How many images [3, H, W] in float32 go into one request, with the longest of the prompts each; their gradients take
 * the same. 1 where a request may not hold one: the server says what is wrong. Throws `StatusError` INVALID_ARGUMENT
 * where no message can: to wait would not mend it.
 */
function mostImages(
  { images, pixels, bytes }: RequestLimits,
  { name, size, prompts }: {
    readonly name: string;
    readonly size: readonly number[];
    readonly prompts: readonly string[];
  },
): number {
  const [, height = 1, width = 1] = size;
  // UTF-8 has three bytes at most for a code unit.
  const longest = 3 * prompts.reduce((most, { length }) => Math.max(most, length), 0);
  const tensor = 4 * size.reduce((a, b) => a * b, 1);
  const each = tensor + longest + IMAGE_BYTES;
  const fitting = Math.floor((bytes - MESSAGE_BYTES) / each);
  if (fitting < 1) {
    throw new StatusError(
      "INVALID_ARGUMENT",
      `An image of ${height}x${width} takes ${each + MESSAGE_BYTES} bytes of a request, expected ` +
        `at most ${bytes}, the largest message of ${name}`,
    );
  }
  return Math.max(1, Math.min(images, Math.floor(pixels / (height * width)), fitting));
}

/** Throws `StatusError` FAILED_PRECONDITION where replicas have different weights. */
function checkAgreement(
  found:
    readonly (readonly [address: string, { readonly digest: string; readonly name: string }])[],
): void {
  if (new Set(found.map(([, { digest }]) => digest)).size < 2) return;
  const list = found.map(([address, { digest }]) => `${address} ${digest || "none"}`).join(", ");
  throw new StatusError(
    "FAILED_PRECONDITION",
    `Replicas of ${
      found[0]?.[1].name
    } have different weights, expected one digest or expectedDigest: ${list}`,
  );
}

interface Answer {
  readonly scores: readonly number[];
  readonly digest: string;
  readonly truncatedPrompts: readonly number[];
}

/** The bytes of a gradient that is of the images asked about: float32, of their shape. */
function gradientOf(
  tensor: Tensor | undefined,
  { name, shape }: { readonly name: string; readonly shape: readonly number[] },
): Uint8Array {
  const wrong = (found: string, expected: string | number) =>
    new StatusError("INTERNAL", `${name} answered ${found}, expected ${expected}`);
  if (tensor === undefined) throw wrong("no gradient", "one");
  const { dtype, data } = tensor;
  if (dtype !== DataType.FLOAT32) {
    throw wrong(`a gradient of ${DataType[dtype] ?? `type ${dtype}`}`, "FLOAT32");
  }
  if (tensor.shape.join() !== shape.join()) {
    throw wrong(`a gradient of shape [${tensor.shape.slice(0, 8)}]`, `[${shape}]`);
  }
  const bytes = 4 * shape.reduce((a, b) => a * b, 1);
  if (data.byteLength !== bytes) throw wrong(`${data.byteLength} bytes of gradient`, bytes);
  return data;
}

function checkDigest(found: string, expected: string | undefined, what: string): void {
  if (expected !== undefined && expected !== "" && found !== expected) {
    throw new StatusError(
      "FAILED_PRECONDITION",
      `Reward ${what} has weights digest ${found}, expected ${expected}`,
    );
  }
}

function bytesOf(data: Float32Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function infoOf(d: RewardDescription): RewardInfo {
  return {
    name: d.name,
    kind: d.kind,
    direction: d.direction === Direction.MINIMISE ? "minimise" : "maximise",
    range: [d.lowest, d.highest],
    readsPrompt: d.readsPrompt,
    ...(d.promptTokens > 0 && { promptTokens: d.promptTokens }),
    preprocessing: d.preprocessing,
    fileProcessing: d.fileProcessing === Processing.TENSOR ? "tensor" : "reference",
    digest: d.digest,
    provider: d.provider,
  };
}
