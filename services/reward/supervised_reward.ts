import type { Images, Reward, RewardInfo, RewardResult, ScoreOptions } from "../../rewards/mod.ts";
import { backoff, type Logger } from "../../base/mod.ts";
import { StatusError } from "../rpc/mod.ts";
import { WorkerEndedError } from "./_worker_process.ts";
import type { RewardProcess } from "./reward_process.ts";

/** How a reward is kept up. */
export interface SupervisionOptions {
  readonly log: Logger;
  /** Called when the process has crashed (false) and when it is back (true). */
  readonly onReady?: (ready: boolean) => void;
  /** Wait before the second attempt to start it again; doubles with each failure up to 30 s. Default 500 ms. */
  readonly backoffMs?: number;
}

const MAX_BACKOFF_MS = 30_000;

/**
 * A reward whose process is started again when it ends by itself. Calls meanwhile wait for the present attempt;
 * between attempts they fail with UNAVAILABLE.
 */
export class SupervisedReward implements Reward {
  readonly #start: () => Promise<RewardProcess>;
  readonly #options: SupervisionOptions;
  /** The process, or the present attempt to start it, or why the last one failed. */
  #process: Promise<RewardProcess>;
  #info: RewardInfo;
  #restarts = 0;
  #disposed = false;

  private constructor(
    process: RewardProcess,
    start: () => Promise<RewardProcess>,
    options: SupervisionOptions,
  ) {
    this.#process = Promise.resolve(process);
    this.#info = process.info;
    this.#start = start;
    this.#options = options;
    void this.#supervise(process);
  }

  /** Starts the process; throws what that throws. */
  static async start(
    start: () => Promise<RewardProcess>,
    options: SupervisionOptions,
  ): Promise<SupervisedReward> {
    return new SupervisedReward(await start(), start, options);
  }

  get info(): RewardInfo {
    return this.#info;
  }

  /** How often the process was started again. */
  get restarts(): number {
    return this.#restarts;
  }

  async score(
    images: Images,
    prompts: readonly string[],
    options: ScoreOptions = {},
  ): Promise<RewardResult> {
    try {
      const process = await this.#process;
      return await process.score(images, prompts, options);
    } catch (cause) {
      if (!(cause instanceof WorkerEndedError)) throw cause;
      const { name } = this.#info;
      const message = `Process of reward ${name} ended during the request; it is started again`;
      throw new StatusError("UNAVAILABLE", message, { cause });
    }
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    const process = await this.#process.catch(() => undefined);
    await process?.dispose();
  }

  async #supervise(first: RewardProcess): Promise<void> {
    const { log, onReady, backoffMs = 500 } = this.#options;
    let process: RewardProcess | undefined = first;
    const fresh = () => backoff({ first: backoffMs, longest: MAX_BACKOFF_MS });
    let waits = fresh();
    let wait = 0;
    while (true) {
      if (process) {
        const ended = await process.ended;
        if (this.#disposed) return;
        log.error("Reward ended unexpectedly", { reward: this.#info.name, error: ended.message });
        onReady?.(false);
      }
      if (wait > 0) await new Promise((resolve) => Deno.unrefTimer(setTimeout(resolve, wait)));
      if (this.#disposed) return;
      process = await this.#restart();
      if (process) waits = fresh();
      wait = process ? 0 : waits.next().value;
      if (process) onReady?.(!this.#disposed);
    }
  }

  async #restart(): Promise<RewardProcess | undefined> {
    const { log } = this.#options;
    const { name } = this.#info;
    this.#restarts++;
    const attempt = this.#start();
    this.#process = attempt.catch((cause) => {
      throw new StatusError("UNAVAILABLE", `Reward ${name} cannot be started again`, { cause });
    });
    try {
      const process = await this.#process;
      this.#info = process.info;
      log.info("Reward started again", { reward: name, digest: this.#info.digest });
      return process;
    } catch (error) {
      log.error("Reward cannot be started again", { reward: name, error });
      return undefined;
    }
  }
}
