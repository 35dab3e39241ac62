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
import { type GrpcClient, grpcClient, type GrpcClientOptions } from "./grpc_client.ts";

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
}

/** How often a batch is asked for while the weights change under it. */
const TRIES = 5;

/** Rest of a connection before it is closed. */
const SETTLE_MS = 50;

/** A reward behind `drtune.reward.v1.RewardService`, with the interface of one in this process. */
export class RemoteReward implements Reward {
  #info: RewardInfo;
  readonly #client: GrpcClient<typeof RewardService>;
  readonly #options: RemoteRewardOptions;
  #maxImages: number;

  private constructor(
    client: GrpcClient<typeof RewardService>,
    description: RewardDescription,
    options: RemoteRewardOptions,
  ) {
    this.#info = infoOf(description);
    this.#client = client;
    this.#options = options;
    this.#maxImages = Math.max(1, description.limits?.maxImages ?? 1);
  }

  /**
   * Connects to "host:port" or "grpcs://host:port" and asks for the reward's facts. Throws `StatusError`: UNAVAILABLE where nothing answers
   * within the deadline, NOT_FOUND, FAILED_PRECONDITION for another digest than expected.
   */
  static async connect(endpoint: string, options: RemoteRewardOptions = {}): Promise<RemoteReward> {
    const client = grpcClient(RewardService, endpoint, { retry: { attempts: 100 }, ...options });
    try {
      const { rewards, defaultReward } = await client.describe(
        { reward: options.reward ?? "" },
        {
          timeoutMs: options.connectMs ?? options.timeoutMs ?? 60_000,
          ...(options.signal && { signal: options.signal }),
        },
      );
      const wanted = options.reward || defaultReward;
      const found = rewards.find(({ name }) => name === wanted);
      if (found === undefined) {
        throw new StatusError(
          "INVALID_ARGUMENT",
          `${endpoint} serves ${rewards.map((r) => r.name).join(", ") || "no reward"}: name one`,
        );
      }
      checkDigest(found.digest, options.expectedDigest, `${found.name} at ${endpoint}`);
      return new RemoteReward(client, found, { ...options, reward: found.name });
    } catch (error) {
      client.close();
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
    const { rewards } = await this.#client.describe({ reward: this.#info.name }, call);
    const found = rewards.find(({ name }) => name === this.#info.name);
    if (found === undefined) {
      throw new StatusError("NOT_FOUND", `Reward "${this.#info.name}" is no longer served`);
    }
    checkDigest(found.digest, this.#options.expectedDigest, found.name);
    this.#maxImages = Math.max(1, found.limits?.maxImages ?? 1);
    return this.#info = infoOf(found);
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
    // They may change while this waits.
    const [{ name, readsPrompt }, maxImages] = [this.#info, this.#maxImages];
    for (let at = 0; at < batch; at += maxImages) {
      const count = Math.min(maxImages, batch - at);
      const part = images.data.subarray(at * width, (at + count) * width);
      const shape = [count, ...size];
      const request = {
        reward: name,
        images: [{
          source: {
            case: "tensor" as const,
            value: { dtype: DataType.FLOAT32, shape, data: bytesOf(part) },
          },
        }],
        prompts: readsPrompt ? prompts.slice(at, at + count) : [],
      };
      const call = {
        timeoutMs: this.#options.timeoutMs ?? 60_000,
        ...(options.signal && { signal: options.signal }),
      };
      const take = (answer: Answer) => {
        this.#check(answer, count);
        scores.set(answer.scores, at);
        cut.push(...answer.truncatedPrompts.map((i) => at + i));
        digests.add(answer.digest);
      };
      if (gradient === undefined) {
        const processing = options.processing === "reference"
          ? Processing.REFERENCE
          : Processing.TENSOR;
        take(await this.#client.score({ ...request, processing }, call));
      } else {
        const answer = await this.#client.scoreAndGradient(request, call);
        take(answer);
        const data = gradientOf(answer.gradients[0], { name, shape });
        new Uint8Array(gradient.buffer, at * width * 4, data.byteLength).set(data);
      }
    }
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
    this.#client.close();
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
