import { randomUUID } from "node:crypto";
import { readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { cut, SerialQueue } from "../../base/mod.ts";
import { parseConfig } from "../parse_config.ts";
import { checkRunId, isRunId, parseRunConfig, runConfigSchema } from "./run_config.ts";
import {
  RunConflictError,
  RunStateError,
  TooManyRunsError,
  UnknownRunError,
} from "./run_errors.ts";
import { fromDisk, onDisk } from "./_disk.ts";
import { readRun } from "./_read_run.ts";
import { RunFolder } from "./run_folder.ts";
import type { RunDependencies } from "./run_dependencies.ts";
import { TrainingRun } from "./training_run.ts";

/** Name of a folder that is being removed. */
const DELETED = ".deleted-";
/** Runs that wait or train. They go one after the other: more are a mistake. */
const MAX_UNFINISHED = 100;

/** The runs of a folder. They train one at a time, in the order in which they were started. */
export class RunStore {
  readonly #unreadable: Map<string, string>;
  /** Runs whose folders are being removed. */
  readonly #deleting = new Map<string, Promise<void>>();
  readonly #root: string;
  readonly #lock: Deno.FsFile;
  readonly #dependencies: RunDependencies;
  readonly #runs: Map<string, TrainingRun>;
  /** Reads runs that could not be read, one at a time. */
  readonly #reading = new SerialQueue();
  #working: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(
    root: string,
    { lock, dependencies, runs, unreadable }: {
      readonly lock: Deno.FsFile;
      readonly dependencies: RunDependencies;
      readonly runs: Map<string, TrainingRun>;
      readonly unreadable: Map<string, string>;
    },
  ) {
    this.#root = root;
    this.#lock = lock;
    this.#dependencies = dependencies;
    this.#runs = runs;
    this.#unreadable = unreadable;
  }

  /**
   * Opens a folder of runs: those that had not ended go on from their newest checkpoint. Throws `RunStateError` while
   * another process has it open.
   */
  static async open(root: string, dependencies: RunDependencies): Promise<RunStore> {
    const lock = await Deno.open(join(root, ".lock"), { create: true, write: true });
    if (!await lock.tryLock(true)) {
      lock.close();
      throw new RunStateError(`Folder ${root} is in use by another trainer`);
    }
    const runs = new Map<string, TrainingRun>();
    const unreadable = new Map<string, string>();
    try {
      for (const id of await namesIn(root)) {
        try {
          const run = await readRun(join(root, id), { id, dependencies });
          if (run !== undefined) runs.set(id, run);
        } catch (error) {
          unreadable.set(id, messageOf(error));
        }
      }
    } catch (error) {
      lock.close();
      throw error;
    }
    const store = new RunStore(root, { lock, dependencies, runs, unreadable });
    for (const run of store.list().toReversed()) {
      if (!run.ended) store.#schedule(run);
    }
    return store;
  }

  /** Folders that look like runs and cannot be read, or cannot go on, and why. */
  get unreadable(): ReadonlyMap<string, string> {
    return this.#unreadable;
  }

  /** Newest first. */
  list(): TrainingRun[] {
    return [...this.#runs.values()].sort((a, b) =>
      `${a.createdAt}/${a.id}` < `${b.createdAt}/${b.id}` ? 1 : -1
    );
  }

  /** Throws `UnknownRunError`, or `RunStateError` for a run that cannot be read. */
  get(id: string): TrainingRun {
    const run = this.#runs.get(id);
    if (run !== undefined) return run;
    const reason = this.#unreadable.get(id);
    if (reason !== undefined) throw new RunStateError(`Run "${id}" cannot be read: ${reason}`);
    throw new UnknownRunError(`No run "${cut(id, 80)}"`);
  }

  /**
   * Starts a run; with the id of one that is there and the same configuration, answers that one. Throws `FieldError`,
   * `RunConflictError` where the configuration differs, or `TooManyRunsError`.
   */
  async start(
    id: string,
    value: unknown,
  ): Promise<{ readonly run: TrainingRun; readonly created: boolean }> {
    checkRunId(id);
    const config = await this.#dependencies.prepare?.(value) ?? parseRunConfig(value);
    // Its folder is still there.
    await this.#deleting.get(id);
    if (!this.#runs.has(id)) {
      if (this.list().filter((run) => !run.ended).length >= MAX_UNFINISHED) {
        throw new TooManyRunsError(
          `There are ${MAX_UNFINISHED} unfinished runs, no more are taken`,
        );
      }
      await this.#dependencies.admit?.(config);
    }
    const known = this.#runs.get(id);
    if (known !== undefined) {
      if (isDeepStrictEqual(known.config, config)) return { run: known, created: false };
      throw new RunConflictError(`Run "${id}" is there already with another configuration`);
    }
    if (this.#unreadable.has(id) || this.#deleting.has(id)) {
      const reason = this.#unreadable.get(id) ?? "it is being deleted";
      throw new RunConflictError(`Run "${id}" is there already: ${reason}`);
    }
    const folder = new RunFolder(join(this.#root, id));
    const createdAt = (this.#dependencies.now?.() ?? new Date()).toISOString();
    const run = new TrainingRun({ id, folder, config, createdAt, events: [] }, this.#dependencies);
    // Taken before anything is awaited: a second call with this id must not make a second run.
    this.#runs.set(id, run);
    try {
      await folder.create({ config, createdAt, first: () => run.setState("queued") });
    } catch (error) {
      this.#runs.delete(id);
      throw error;
    }
    this.#schedule(run);
    return { run, created: true };
  }

  /**
   * Continues a run that has ended. Throws `RunStateError` where it has not, or has nothing left to do, and
   * `FieldError` for a number of iterations that no configuration may have. One that could not be read is read again.
   */
  async resume(id: string, iterations?: number): Promise<TrainingRun> {
    // Nothing is awaited otherwise: of calls at once the first wins.
    const again = this.#unreadable.has(id)
      ? await this.#reading.add(() => this.#readAgain(id))
      : undefined;
    // As when the store is opened, it goes on by itself.
    if (again?.ended === false) return again;
    const run = this.get(id);
    if (!run.ended) {
      throw new RunStateError(`Run "${id}" is ${run.state}, expected it to have ended`);
    }
    const wanted = iterations ?? run.iterations;
    parseConfig(runConfigSchema.pick({ iterations: true }), { iterations: wanted });
    if (wanted < run.step || (run.state === "finished" && wanted <= run.step)) {
      throw new RunStateError(
        `Run "${id}" has done ${run.step} iterations, ${wanted} were asked for`,
      );
    }
    await run.requeue(wanted);
    this.#schedule(run);
    return run;
  }

  /** A run that could not be read, where now it can. */
  async #readAgain(id: string): Promise<TrainingRun | undefined> {
    if (!this.#unreadable.has(id)) return undefined;
    try {
      const run = await readRun(join(this.#root, id), { id, dependencies: this.#dependencies });
      // Another call may have removed it meanwhile.
      if (run === undefined || !this.#unreadable.delete(id)) return undefined;
      this.#runs.set(id, run);
      if (!run.ended) this.#schedule(run);
      return run;
    } catch (error) {
      if (this.#unreadable.has(id)) this.#unreadable.set(id, messageOf(error));
      return undefined;
    }
  }

  /**
   * Removes a run and its folder, also of a run that cannot be read. Throws `RunStateError` while it goes on, and
   * `UnknownRunError` for one that is being removed.
   */
  async delete(id: string): Promise<void> {
    const reason = this.#unreadable.get(id);
    const run = reason === undefined ? this.get(id) : undefined;
    if (run && !run.ended) throw new RunStateError(`Run "${id}" is ${run.state}: stop it first`);
    // Gone at once, for whoever asks next; there again where its folder cannot be removed.
    this.#runs.delete(id);
    this.#unreadable.delete(id);
    const removing = this.#remove(id, run);
    this.#deleting.set(id, removing.catch(() => {}));
    try {
      await removing;
    } catch (error) {
      if (run) this.#runs.set(id, run);
      else if (reason !== undefined) this.#unreadable.set(id, reason);
      throw error;
    } finally {
      this.#deleting.delete(id);
    }
  }

  async #remove(id: string, run: TrainingRun | undefined): Promise<void> {
    // A run that has just ended may still close what it used.
    await run?.executed;
    // What a crash leaves of it is removed when the folder is opened again.
    const grave = join(this.#root, `${DELETED}${randomUUID()}`);
    await onDisk("delete.rename", () => rename(join(this.#root, id), grave));
    // Nobody can tell that it is there.
    await onDisk("delete.remove", () => rm(grave, { recursive: true, force: true }))
      .catch(() => {});
  }

  /** Ends after the present iteration, with a checkpoint; runs go on when the folder is opened again. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const run of this.#runs.values()) if (!run.ended) run.suspend();
    await this.#working;
    this.#lock.close();
  }

  #schedule(run: TrainingRun): void {
    this.#working = this.#working.then(async () => {
      if (!this.#closed && run.state === "queued") await run.execute();
    });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Folders that may be runs, in order. What is left of removed ones is removed. */
async function namesIn(root: string): Promise<string[]> {
  const entries = await fromDisk(
    "store.list",
    { path: root },
    () => readdir(root, { withFileTypes: true }),
  );
  for (const { name } of entries.filter((entry) => entry.name.startsWith(DELETED))) {
    const left = join(root, name);
    // What cannot be removed now is in nobody's way.
    await onDisk("delete.leftover", () => rm(left, { recursive: true, force: true }))
      .catch(() => {});
  }
  return entries.filter((e) => !e.isFile() && isRunId(e.name)).map(({ name }) => name).sort();
}
