import { join } from "node:path";
import { type Run, TrainerService } from "../../proto/mod.ts";
import { type GrpcClient, StatusError } from "../rpc/mod.ts";

/** Larger files are not images of ours. */
const MAX_BYTES = 64 * 2 ** 20;

/** Paths of images, by what a run's events say, as far as they were read. */
interface KnownRun {
  /** Tells a run from a later one of the same id. */
  readonly createdAt: string;
  readonly paths: Set<string>;
  /** Last step whose event was read; -1 before step 0, the untrained model. */
  step: number;
  /** Events are being read. */
  reading?: Promise<void> | undefined;
}

/** As the trainer takes them. */
const RUN_ID = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** Longest the events of a run may take to be read again. */
const TIMEOUT_MS = 30_000;
const FIRST_EVENT_MS = 2000;

/** Bound on the runs whose paths are remembered; the one unused longest is forgotten. */
const MAX_KNOWN_RUNS = 100;

/**
 * The images in the runs' folder: samples, and those of iterations. Serves what a run's events name and nothing else: no other file, nothing
 * outside of the run's folder, no link.
 */
export class SampleFiles {
  readonly #trainer: GrpcClient<typeof TrainerService>;
  readonly #root: string | undefined;
  readonly #runs = new Map<string, KnownRun>();

  /** @param root folder with one folder for each run; undefined where images are not served */
  constructor(trainer: GrpcClient<typeof TrainerService>, root: string | undefined) {
    this.#trainer = trainer;
    this.#root = root;
  }

  /** Reads an image. Throws `StatusError`: NOT_FOUND for everything that is not to be had. */
  async read(runId: string, path: string): Promise<Uint8Array<ArrayBuffer>> {
    const missing = (cause?: unknown) =>
      new StatusError("NOT_FOUND", `Run ${runId} has no image ${path}`, { cause });
    if (this.#root === undefined) {
      throw new StatusError("UNIMPLEMENTED", "No images: the gateway was started without --runs");
    }
    if (!RUN_ID.test(runId) || !await this.#isNamed(runId, path)) throw missing();
    try {
      const folder = await Deno.realPath(this.#root);
      const file = join(folder, runId, path);
      // Equal only where no part of the path is a link or goes upwards.
      if (await Deno.realPath(file) !== file || !file.startsWith(join(folder, runId, "/"))) {
        throw missing();
      }
      const { isFile, size } = await Deno.stat(file);
      if (!isFile || size > MAX_BYTES) throw missing();
      return await Deno.readFile(file);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
        throw missing(error);
      }
      throw error;
    }
  }

  async #isNamed(runId: string, path: string): Promise<boolean> {
    if (this.#runs.get(runId)?.paths.has(path)) return true;
    const { run } = await this.#trainer.getRun({ runId }, { timeoutMs: TIMEOUT_MS });
    if (run === undefined) return false;
    const known = this.#known(run);
    if (known.step < run.step) {
      // A page asks for all of its images at once.
      known.reading ??= this.#readEvents(run, known).finally(() => known.reading = undefined);
      await known.reading;
    }
    return known.paths.has(path);
  }

  async #readEvents({ id: runId, step }: Run, known: KnownRun): Promise<void> {
    const options = { timeoutMs: step > 0 ? TIMEOUT_MS : FIRST_EVENT_MS };
    const events = this.#trainer.watchRun({ runId, fromStep: known.step + 1 }, options);
    try {
      for await (const { event } of events) {
        if (event.case !== "step") continue;
        for (const sample of event.value.samples) known.paths.add(sample.path);
        for (const path of event.value.images) known.paths.add(path);
        known.step = Math.max(known.step, event.value.step);
        if (known.step >= step) break;
      }
    } catch (error) {
      // Before the first step nothing may have been recorded yet, nor be for a while.
      const nothing = error instanceof StatusError && error.status === "DEADLINE_EXCEEDED";
      if (!nothing || step > 0) throw error;
    }
  }

  #known({ id, createdAt }: Run): KnownRun {
    const created = `${createdAt?.seconds}.${createdAt?.nanos}`;
    const found = this.#runs.get(id);
    const known = found?.createdAt === created
      ? found
      : { createdAt: created, paths: new Set<string>(), step: -1 };
    this.#runs.delete(id);
    this.#runs.set(id, known);
    for (const oldest of this.#runs.keys()) {
      if (this.#runs.size <= MAX_KNOWN_RUNS) break;
      this.#runs.delete(oldest);
    }
    return known;
  }
}
