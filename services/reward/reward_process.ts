import {
  type Images,
  type Reward,
  type RewardInfo,
  RewardInputError,
  type RewardResult,
  type ScoreOptions,
} from "../../rewards/mod.ts";
import type { Frame } from "../../runtime/mod.ts";
import type { Logger } from "../../base/mod.ts";
import {
  decodeInfo,
  replySchema,
  type WorkerReply,
  type WorkerRequest,
  type WorkerSettings,
} from "./_worker_messages.ts";
import { workerPermissions } from "./_worker_permissions.ts";
import { type WorkerEndedError, WorkerProcess } from "./_worker_process.ts";

/** A reward's record as in a configuration file; what it may hold is for the worker to judge. */
export type RewardRecord = Readonly<Record<string, unknown>>;

/** How a reward's process is run. */
export interface RewardProcessOptions {
  readonly log: Logger;
  readonly settings: WorkerSettings;
  /** The program, which calls `serveReward`. Default: `reward_worker.ts`, which loads the rewards of this project. */
  readonly entry?: URL;
  /** Deno's permission flags for it. Default: those of `workerPermissions`. */
  readonly permissions?: readonly string[];
  /** A load that takes longer is ended. Default 600,000 ms. */
  readonly loadTimeoutMs?: number;
  /** A run that takes longer is taken for hung, and its process ended. Default 600,000 ms. */
  readonly runTimeoutMs?: number;
}

/** A reward in a child process of its own, for one life of that process. */
export class RewardProcess implements Reward {
  readonly info: RewardInfo;
  /** Resolves when the process has ended, for whatever reason. */
  readonly ended: Promise<WorkerEndedError>;
  readonly #worker: WorkerProcess;
  readonly #runTimeoutMs: number;

  private constructor(worker: WorkerProcess, info: RewardInfo, runTimeoutMs: number) {
    this.info = info;
    this.ended = worker.ended;
    this.#worker = worker;
    this.#runTimeoutMs = runTimeoutMs;
  }

  /** Starts the process and loads the reward in it. Throws what the load throws. */
  static async start(
    name: string,
    record: RewardRecord,
    {
      log,
      settings,
      entry = new URL("./reward_worker.ts", import.meta.url),
      permissions = workerPermissions(record, settings),
      loadTimeoutMs = 600_000,
      runTimeoutMs = 600_000,
    }: RewardProcessOptions,
  ): Promise<RewardProcess> {
    const worker = new WorkerProcess({
      entry,
      permissions,
      name: `reward ${name}`,
      onStderr: (line) => log.info("worker", { reward: name, pid: worker.pid, line }),
    });
    try {
      const request: WorkerRequest = { op: "load", record: { ...record, name }, settings };
      const frame = await worker.call({ message: request, tensors: [] }, {
        timeoutMs: loadTimeoutMs,
      });
      const { info } = check(frame);
      if (!info) throw new TypeError("Worker answered a load without facts");
      return new RewardProcess(worker, decodeInfo(info), runTimeoutMs);
    } catch (error) {
      await worker.close();
      throw error;
    }
  }

  async score(
    images: Images,
    prompts: readonly string[],
    { gradient = false, processing = "tensor", signal }: ScoreOptions = {},
  ): Promise<RewardResult> {
    const request: WorkerRequest = { op: "score", prompts: [...prompts], gradient, processing };
    const answer = await this.#worker.call({ message: request, tensors: [images] }, {
      timeoutMs: this.#runTimeoutMs,
      ...(signal && { signal }),
    });
    const { truncated } = check(answer);
    const [scores, gradients] = answer.tensors;
    if (scores?.dtype !== "float32" || gradient !== (gradients?.dtype === "float32")) {
      throw new TypeError("Worker answered without the scores and gradients asked for");
    }
    return {
      scores: scores.data,
      ...(truncated && { truncated }),
      ...(gradients?.dtype === "float32" && { gradient: gradients }),
    };
  }

  async dispose(): Promise<void> {
    await this.#worker.close();
  }
}

/** The reply of a frame; its error is thrown. */
function check(frame: Frame): WorkerReply {
  const reply = replySchema.parse(frame.message);
  const { error } = reply;
  if (error?.input) throw new RewardInputError(error.message);
  if (error) throw new Error(error.message, { cause: error.stack });
  return reply;
}
