import { backoff, raceAbort } from "../../base/mod.ts";
import { estimateReporter } from "./_estimate_reporter.ts";
import { isOutOfFiles } from "./_out_of_files.ts";
import { MixtureChanges } from "./_mixture_changes.ts";
import { Patience } from "./_patience.ts";
import { doneOf, type End, type Progress } from "./_pending.ts";
import { remark } from "./_remark.ts";
import { restore } from "./_restore.ts";
import { RewardClients } from "./_reward_clients.ts";
import type { LoopRun } from "./_loop_run.ts";
import { TrainingLoop } from "./_training_loop.ts";
import { listCheckpoints } from "./checkpoint.ts";
import type { OpenedModel } from "./opened_model.ts";
import { reportText } from "./plan_report.ts";
import type { RewardTerm, RunConfig } from "./run_config.ts";
import type { RunDependencies } from "./run_dependencies.ts";
import { RunStateError } from "./run_errors.ts";
import type { RunEvent, RunState } from "./run_events.ts";
import type { RunFolder } from "./run_folder.ts";
import { RunLog } from "./run_log.ts";

const LONGEST_RETRY_MS = 10_000;

interface Finished {
  readonly state: "finished";
  readonly reason: string;
}

/** One run: trains in the background, does what it is asked for, and goes on from its folder. */
export class TrainingRun {
  readonly id: string;
  readonly folder: RunFolder;
  readonly config: RunConfig;
  readonly createdAt: string;
  readonly log: RunLog;
  readonly #dependencies: RunDependencies;
  readonly #progress: Progress;
  readonly #clients: RewardClients;
  readonly #patience: Patience;
  /** Aborts when the present iteration is given up. Replaced when the run is taken back. */
  #giveUp = new AbortController();
  #executing: Promise<void> = Promise.resolve();
  readonly #changes: MixtureChanges;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    { id, folder, config, createdAt, events }: {
      readonly id: string;
      readonly folder: RunFolder;
      readonly config: RunConfig;
      readonly createdAt: string;
      readonly events: readonly RunEvent[];
    },
    dependencies: RunDependencies,
  ) {
    this.id = id;
    this.folder = folder;
    this.config = config;
    this.createdAt = createdAt;
    this.#dependencies = dependencies;
    const { now, maxRetryMs = LONGEST_RETRY_MS } = dependencies;
    const log = this.log = new RunLog({ folder, events, rewards: config.rewards, now });
    this.#progress = {
      step: log.latest?.step ?? 0,
      iterations: log.lastState?.iterations ?? config.iterations,
      iterating: undefined,
      checkpoints: [],
      end: undefined,
    };
    this.#clients = new RewardClients((term, signal) => dependencies.connect(term, signal));
    this.#changes = new MixtureChanges(this, {
      clients: this.#clients,
      emit: async (rewards) => {
        const step = this.#boundary();
        await this.log.emit({ type: "swap", step, rewards: [...rewards] });
        this.#patience.wake();
        return step;
      },
    });
    this.#patience = new Patience({
      longest: maxRetryMs,
      // How long workers take says nothing about rewards.
      ...(dependencies.workers && { lateMs: Infinity }),
      away: async (reason) => {
        // A stop that was asked for goes first.
        if (this.#progress.end === undefined) await this.setState("paused", reason);
      },
      back: async () => {
        if (this.state === "paused") await this.setState("running");
      },
    });
  }

  /** Iterations done. */
  get step(): number {
    return this.#progress.step;
  }
  /** Iterations to do. */
  get iterations(): number {
    return this.#progress.iterations;
  }
  /** Steps that have a checkpoint, ascending. */
  get checkpoints(): readonly number[] {
    return this.#progress.checkpoints;
  }
  get state(): RunState {
    return this.log.state;
  }
  /** Whether nothing more will happen unless the run is taken back. */
  get ended(): boolean {
    return this.log.ended;
  }
  /** The mixture of the next iteration to begin. */
  get rewards(): readonly RewardTerm[] {
    const { iterating, step } = this.#progress;
    return this.log.mixtureOf((iterating ?? step) + 1);
  }

  /** Reads which checkpoints there are. */
  async refresh(): Promise<void> {
    this.#progress.checkpoints = await listCheckpoints(this.folder.checkpoints);
  }

  /** Puts the run into a state, in the log too. */
  async setState(state: RunState, reason = ""): Promise<void> {
    await this.log.emit({ type: "state", state, reason, ...doneOf(this.#progress) });
  }

  /**
   * Asks the run to write a checkpoint and stop: after its iteration, or at once where it waits for a reward. Of a run that
   * chooses, the choice is left for when it is resumed.
   */
  async stop(): Promise<void> {
    if (this.ended || this.#progress.end?.state === "stopped") return;
    const state = this.state === "queued" ? "stopped" : "stopping";
    this.#progress.end = { state: "stopped", reason: "" };
    await this.setState(state);
    this.#patience.wake();
  }

  /**
   * Like `stop`, but the run is to go on later: it ends as queued. An iteration that takes longer than the grace period is
   * given up: it will be done again, with the same bits.
   */
  suspend(): void {
    this.#progress.end ??= { state: "queued", reason: "The server was stopped" };
    this.#patience.wake();
    this.#timer ??= setTimeout(
      () => this.#giveUp.abort(),
      this.#dependencies.graceMs ?? 5_000,
    );
  }

  /** Takes a run back that has ended or was interrupted, with another number of iterations if asked. */
  async requeue(iterations = this.iterations): Promise<void> {
    this.#progress.iterations = Math.max(iterations, this.step);
    this.#progress.end = undefined;
    this.#giveUp = new AbortController();
    await this.setState("queued");
  }

  /** Trains with another mixture; see `MixtureChanges`. Returns how many iterations are done under the old one. */
  async swap(rewards: readonly RewardTerm[], signal?: AbortSignal): Promise<number> {
    return (await this.#changes.make(() => rewards, signal)).step;
  }

  /** Makes another mixture of the present one; see `MixtureChanges`. */
  change(of: (present: readonly RewardTerm[]) => readonly RewardTerm[], signal?: AbortSignal) {
    return this.#changes.make(of, signal);
  }

  /**
   * Asks for a checkpoint at the next boundary between iterations; an iteration that waits for a reward is given up for it and begins
   * again. Returns how many iterations the checkpoint will hold. Throws `RunStateError` where the run does not train.
   */
  async save(): Promise<number> {
    if (this.ended || this.state === "queued") {
      throw new RunStateError(`Run "${this.id}" is ${this.state}: there is nothing to save`);
    }
    // Before the first iteration there is nothing that its configuration does not say.
    const step = Math.max(1, this.#boundary());
    await this.log.emit({ type: "save", step });
    this.#patience.wake();
    return step;
  }

  /** Resolves when the run does nothing, nor closes what it used. */
  get executed(): Promise<void> {
    return this.#executing;
  }

  /** Trains until it is done, stopped or failed. Never throws: what went wrong is in the state. */
  execute(): Promise<void> {
    return this.#executing = this.#execute();
  }

  async #execute(): Promise<void> {
    const { maxRetryMs: longest = LONGEST_RETRY_MS } = this.#dependencies;
    for (const wait of backoff({ first: Math.min(250, longest / 10), longest })) {
      const lacking = await this.#attempt();
      if (lacking === undefined) return;
      if (this.state !== "paused") await this.setState("paused", lacking);
      if (this.#progress.end === undefined) await this.#patience.sleep(wait);
    }
  }

  /** Trains until it ends. Answers why it cannot now, where files ran out: it is to begin again at its checkpoint. */
  async #attempt(): Promise<string | undefined> {
    let opened: OpenedModel | undefined;
    try {
      await this.setState("running");
      opened = await openUnless(this.#giveUp.signal, this.#dependencies.openModel(this.config));
      const end = opened ? await this.#train(opened) : this.#progress.end;
      await this.setState(end?.state ?? "stopped", end?.reason);
      return undefined;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const { end } = this.#progress;
      if (!isOutOfFiles(error)) await this.setState("failed", reason);
      else if (end === undefined) return reason;
      // The folder says that it had not ended, whether this is written or not.
      else await this.setState(end.state, end.reason).catch(() => {});
      return undefined;
    } finally {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      await opened?.release().catch(() => {});
      await this.#clients.close();
      await this.log.record(undefined);
    }
  }

  /** Trains from the newest checkpoint. Answers how it ended; where all is done, with what it cost beside its estimate. */
  async #train(opened: OpenedModel): Promise<End | Finished> {
    const { id, config, folder, log } = this;
    const { prompts, heldOutPrompts } = config;
    const ofPrompts = opened.model.prompts.remark?.([...new Set([...prompts, ...heldOutPrompts])]);
    const remarks = [...opened.remarks ?? [], ...ofPrompts === undefined ? [] : [ofPrompts]];
    if (remarks.length > 0 && this.#progress.end === undefined) {
      await this.setState("running", remarks.join("; "));
    }
    const restored = await restore(opened, { folder, config, log, progress: this.#progress });
    const { step } = restored.at;
    const report = await estimateReporter(opened, { folder: folder.path, log, from: step });
    await report();
    await log.record(
      await this.#dependencies.record?.({
        ...{ id, config, step, folder: folder.path, events: log.events },
      }),
    );
    const workers = await this.#dependencies.workers?.begin({
      ...{ id, config },
      modelDigest: await opened.model.digest(),
      say: (text) => remark(text, { log, progress: this.#progress }),
    });
    let end: End | undefined;
    try {
      const run: LoopRun = {
        ...{ id, folder, config, log, workers },
        progress: this.#progress,
        clients: this.#clients,
        patience: this.#patience,
        giveUp: this.#giveUp.signal,
      };
      end = await TrainingLoop.train(run, { opened, restored, onFirst: report });
    } finally {
      await workers?.close();
    }
    const found = await report();
    return end ?? { state: "finished", reason: found === undefined ? "" : reportText(found) };
  }

  /** The step after which what is asked for now takes effect: a reward that is away is not waited for. */
  #boundary(): number {
    const { iterating, step } = this.#progress;
    return this.state === "paused" ? step : iterating ?? step;
  }
}

/** The model that is being opened; `undefined` where that is given up. */
async function openUnless(
  giveUp: AbortSignal,
  opening: Promise<OpenedModel>,
): Promise<OpenedModel | undefined> {
  try {
    return await raceAbort(opening, giveUp);
  } catch (error) {
    if (!giveUp.aborted) throw error;
    void opening.then((late) => late.release()).catch(() => {});
    return undefined;
  }
}
