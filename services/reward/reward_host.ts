import type { Reward, RewardInfo } from "../../rewards/mod.ts";
import { cut, type Logger, SerialQueue } from "../../base/mod.ts";
import { StatusError } from "../rpc/mod.ts";
import { Batcher, type Batching, type ScoredJob, type ScoreJob } from "./batcher.ts";
import type { RewardRecord } from "./reward_process.ts";

/** What a reward is doing: loading for the first time, answering, or being started again after a crash. */
export type RewardState = "loading" | "ready" | "restarting";

/** A reward that is served. */
export interface HostedReward {
  readonly info: RewardInfo;
  /** Queues images; see `Batcher.submit`. */
  score(job: ScoreJob, signal?: AbortSignal): Promise<ScoredJob>;
}

/** A reward of the host and its load. */
export interface RewardStatus {
  readonly name: string;
  readonly state: RewardState;
  /** Absent while it is loading for the first time. */
  readonly reward?: HostedReward;
  readonly queuedImages: number;
  readonly restarts: number;
}

/** The rewards of a server, as its services see them. */
export interface RewardHost {
  /**
   * The reward of that name, or the default one for "". Throws NOT_FOUND with the names there are, UNAVAILABLE while
   * it is loading, INVALID_ARGUMENT when there is no default.
   */
  get(name: string): HostedReward;
  /** All rewards, by name. */
  list(): RewardStatus[];
  /** What the name "" stands for: the configured reward, or the only one. */
  readonly defaultName: string | undefined;
  /** Whether one of those that the server begins with has not been loaded yet. */
  readonly starting: boolean;
}

/** A host whose rewards can be changed. */
export interface RewardAdminHost extends RewardHost {
  /**
   * Loads a reward and puts it in place of one of the same name, which finishes what it accepted and ends. Without a
   * record the present one is loaded again. Answers the replaced reward's facts. Throws FAILED_PRECONDITION with the
   * reason when that fails; nothing has changed then.
   */
  load(name: string, record?: RewardRecord): Promise<RewardInfo | undefined>;
  /** Ends a reward when it has finished what it accepted. */
  unload(name: string): Promise<void>;
}

/** How a `LocalRewardHost` works. */
export interface RewardHostOptions extends Partial<Batching> {
  /** Loads a reward; `onReady` is to be called when it goes down and comes back. */
  readonly start: (
    name: string,
    record: RewardRecord,
    onReady: (ready: boolean) => void,
  ) => Promise<Reward & { readonly restarts?: number }>;
  readonly log: Logger;
  /** Names that are about to be loaded. */
  readonly beginsWith?: readonly string[];
  /** Name that "" stands for. Default: the only reward. */
  readonly defaultName?: string;
  /** Told of each job that has been scored. */
  readonly onScored?: (job: ScoredJob) => void;
  /** Told when a reward becomes ready or stops being so. */
  readonly onReady?: (name: string, ready: boolean) => void;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Holds rewards by name, each with a queue of its own. */
export class LocalRewardHost implements RewardAdminHost {
  readonly #options: RewardHostOptions;
  readonly #slots = new Map<string, Slot>();
  /** Loads and unloads by name. They outlive slots: an unload gives its slot up first and ends the process then. */
  readonly #turns = new Map<string, Turns>();

  constructor(options: RewardHostOptions) {
    this.#options = options;
    for (const name of options.beginsWith ?? []) this.#slots.set(name, { loads: 0 });
  }

  get defaultName(): string | undefined {
    const [only, ...more] = this.#slots.keys();
    return this.#options.defaultName ?? (more.length === 0 ? only : undefined);
  }

  get starting(): boolean {
    const { beginsWith = [] } = this.#options;
    return beginsWith.some((name) => {
      const slot = this.#slots.get(name);
      return slot !== undefined && slot.record === undefined;
    });
  }

  get(name: string): HostedReward {
    const names = [...this.#slots.keys()].sort();
    const wanted = name || this.defaultName;
    if (wanted === undefined) {
      throw new StatusError("INVALID_ARGUMENT", `Reward is not named; there are ${list(names)}`);
    }
    const slot = this.#slots.get(wanted);
    if (!slot) {
      throw new StatusError(
        "NOT_FOUND",
        `Reward ${shown(wanted)} is not here; there are ${list(names)}`,
      );
    }
    if (!slot.loaded) throw new StatusError("UNAVAILABLE", `Reward ${wanted} is loading`);
    const { info } = slot.loaded;
    return {
      info,
      score: (job, signal) =>
        this.#current(slot).score(job, signal).then((scored) => {
          this.#options.onScored?.(scored);
          return scored;
        }),
    };
  }

  list(): RewardStatus[] {
    const slots = [...this.#slots].sort(([a], [b]) => a < b ? -1 : 1);
    return slots.map(([name, { loaded }]) => ({
      name,
      state: !loaded ? "loading" : loaded.ready ? "ready" : "restarting",
      ...(loaded && { reward: loaded }),
      queuedImages: loaded?.queuedImages ?? 0,
      restarts: loaded?.restarts ?? 0,
    }));
  }

  async load(name: string, record?: RewardRecord): Promise<RewardInfo | undefined> {
    if (!NAME.test(name)) {
      throw new StatusError(
        "INVALID_ARGUMENT",
        `Name of a reward is ${shown(name)}, expected 1 to 64 letters, digits, ".", "_" or "-"`,
      );
    }
    const slot = this.#slots.get(name) ?? { loads: 0 };
    this.#slots.set(name, slot);
    slot.loads++;
    return await this.#inTurn(name, async () => {
      try {
        return await this.#replace(name, slot, record);
      } finally {
        slot.loads--;
        this.#forgetEmpty(name, slot);
      }
    });
  }

  async unload(name: string): Promise<void> {
    if (!this.#slots.has(name)) throw notHere(name);
    await this.#inTurn(name, async () => {
      if (!await this.#end(name)) throw notHere(name);
    });
  }

  /** Ends all rewards once they have finished what they accepted, those too that are being loaded or unloaded. */
  async close(): Promise<void> {
    const names = new Set([...this.#slots.keys(), ...this.#turns.keys()]);
    await Promise.all([...names].map((name) => this.#inTurn(name, () => this.#end(name))));
  }

  /** Ends a reward; false where there is none. */
  async #end(name: string): Promise<boolean> {
    const slot = this.#slots.get(name);
    const loaded = slot?.loaded;
    if (!slot || !loaded) return false;
    delete slot.loaded;
    delete slot.record;
    this.#forgetEmpty(name, slot);
    this.#options.onReady?.(name, false);
    await loaded.retire();
    this.#options.log.info("Reward unloaded", { reward: name });
    return true;
  }

  async #replace(
    name: string,
    slot: Slot,
    record: RewardRecord | undefined = slot.record,
  ): Promise<RewardInfo | undefined> {
    const start = performance.now();
    const old = slot.loaded;
    let loaded: Loaded;
    try {
      if (!record) throw new StatusError("FAILED_PRECONDITION", `Reward ${name} has no record`);
      loaded = await Loaded.start(name, record, this.#options);
    } catch (error) {
      throw failedLoad(name, error);
    }
    slot.record = record;
    slot.loaded = loaded;
    this.#options.onReady?.(name, true);
    const seconds = (performance.now() - start) / 1000;
    this.#options.log.info("Reward loaded", {
      reward: name,
      digest: loaded.info.digest,
      seconds,
      replaced: old?.info.digest,
    });
    for (const warning of loaded.info.warnings ?? []) {
      this.#options.log.warn(warning, { reward: name });
    }
    const replaced = old?.info;
    await old?.retire();
    return replaced;
  }

  /** Loads and unloads of one name follow each other. */
  async #inTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
    const turns = this.#turns.get(name) ?? { queue: new SerialQueue(), count: 0 };
    this.#turns.set(name, turns);
    turns.count++;
    try {
      return await turns.queue.add(work);
    } finally {
      if (--turns.count === 0) this.#turns.delete(name);
    }
  }

  #current(slot: Slot): Loaded {
    if (slot.loaded) return slot.loaded;
    throw new StatusError("UNAVAILABLE", "Reward was unloaded during the request");
  }

  /** Gives a slot up that holds nothing and that no load waits to fill. */
  #forgetEmpty(name: string, slot: Slot): void {
    if (!slot.loaded && slot.loads === 0) this.#slots.delete(name);
  }
}

/** The place of one name. */
interface Slot {
  loaded?: Loaded;
  record?: RewardRecord;
  /** Loads that wait or run. */
  loads: number;
}

/** The loads and unloads of one name. */
interface Turns {
  readonly queue: SerialQueue;
  /** Those that wait or run. */
  count: number;
}

/** A reward with its queue. */
class Loaded implements HostedReward {
  readonly #reward: Reward & { readonly restarts?: number };
  readonly #batcher: Batcher;
  #retired = false;
  ready = true;

  private constructor(
    reward: Reward & { readonly restarts?: number },
    batching: Partial<Batching>,
  ) {
    this.#reward = reward;
    this.#batcher = new Batcher(reward, batching);
  }

  static async start(
    name: string,
    record: RewardRecord,
    { start, onReady, ...batching }: RewardHostOptions,
  ): Promise<Loaded> {
    let loaded: Loaded | undefined;
    const reward = await start(name, record, (ready) => {
      if (!loaded || loaded.#retired) return;
      loaded.ready = ready;
      onReady?.(name, ready);
    });
    return loaded = new Loaded(reward, batching);
  }

  get info(): RewardInfo {
    return this.#reward.info;
  }

  get queuedImages(): number {
    return this.#batcher.queuedImages;
  }

  get restarts(): number {
    return this.#reward.restarts ?? 0;
  }

  score(job: ScoreJob, signal?: AbortSignal): Promise<ScoredJob> {
    return this.#batcher.submit(job, signal);
  }

  /** Finishes what it accepted, then ends. */
  async retire(): Promise<void> {
    this.#retired = true;
    await this.#batcher.idle();
    await this.#reward.dispose();
  }
}

function notHere(name: string): StatusError {
  return new StatusError("NOT_FOUND", `Reward ${shown(name)} is not here`);
}

function failedLoad(name: string, cause: unknown): StatusError {
  if (cause instanceof StatusError && cause.status === "FAILED_PRECONDITION") return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  const message = `Reward ${name} cannot be loaded: ${reason}`;
  return new StatusError("FAILED_PRECONDITION", message, { cause });
}

function list(names: readonly string[]): string {
  return names.length > 0 ? names.join(", ") : "none";
}

function shown(name: string): string {
  return JSON.stringify(cut(name, 64));
}
