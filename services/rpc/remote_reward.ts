import { RewardService } from "../../proto/mod.ts";
import { DataType, Direction, Processing, type RewardDescription } from "../../proto/mod.ts";
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
}

/** Rest of a connection before it is closed. */
const SETTLE_MS = 50;

/** A reward behind `drtune.reward.v1.RewardService`, with the interface of one in this process. */
export class RemoteReward implements Reward {
  readonly info: RewardInfo;
  readonly #client: GrpcClient<typeof RewardService>;
  readonly #options: RemoteRewardOptions;
  readonly #maxImages: number;

  private constructor(
    client: GrpcClient<typeof RewardService>,
    description: RewardDescription,
    options: RemoteRewardOptions,
  ) {
    this.info = infoOf(description);
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
        { timeoutMs: options.connectMs ?? options.timeoutMs ?? 60_000 },
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

  async score(
    images: Images,
    prompts: readonly string[],
    options: ScoreOptions = {},
  ): Promise<RewardResult> {
    const [batch = 0, ...size] = images.shape;
    const width = size.reduce((a, b) => a * b, 1);
    const scores = new Float32Array(batch);
    const gradient = options.gradient ? new Float32Array(images.data.length) : undefined;
    const cut: number[] = [];
    for (let at = 0; at < batch; at += this.#maxImages) {
      const count = Math.min(this.#maxImages, batch - at);
      const part = images.data.subarray(at * width, (at + count) * width);
      const request = {
        reward: this.info.name,
        images: [{
          source: {
            case: "tensor" as const,
            value: { dtype: DataType.FLOAT32, shape: [count, ...size], data: bytesOf(part) },
          },
        }],
        prompts: this.info.readsPrompt ? prompts.slice(at, at + count) : [],
      };
      const call = {
        timeoutMs: this.#options.timeoutMs ?? 60_000,
        ...(options.signal && { signal: options.signal }),
      };
      if (gradient === undefined) {
        const processing = options.processing === "reference"
          ? Processing.REFERENCE
          : Processing.TENSOR;
        const answer = await this.#client.score({ ...request, processing }, call);
        this.#check(answer, count);
        scores.set(answer.scores, at);
        cut.push(...answer.truncatedPrompts.map((i) => at + i));
      } else {
        const answer = await this.#client.scoreAndGradient(request, call);
        this.#check(answer, count);
        scores.set(answer.scores, at);
        cut.push(...answer.truncatedPrompts.map((i) => at + i));
        const data = answer.gradients[0]?.data;
        if (data?.byteLength !== part.byteLength) {
          throw new StatusError(
            "INTERNAL",
            `${this.info.name} answered ${
              data?.byteLength ?? 0
            } bytes of gradient, expected ${part.byteLength}`,
          );
        }
        new Uint8Array(gradient.buffer, at * width * 4, data.byteLength).set(data);
      }
    }
    return {
      scores,
      ...(cut.length > 0 && { truncated: cut }),
      ...(gradient && { gradient: { dtype: "float32", shape: images.shape, data: gradient } }),
    };
  }

  async dispose(): Promise<void> {
    // Deno 2.9's HTTP/2 server can crash when a connection closes right behind a large answer.
    await new Promise<void>((resolve) => setTimeout(resolve, SETTLE_MS));
    this.#client.close();
  }

  #check(answer: { scores: readonly number[]; digest: string }, count: number): void {
    checkDigest(answer.digest, this.#options.expectedDigest, this.info.name);
    if (answer.scores.length !== count) {
      throw new StatusError(
        "INTERNAL",
        `${this.info.name} answered ${answer.scores.length} scores for ${count} images`,
      );
    }
  }
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
