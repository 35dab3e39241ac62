import { mkdir, open, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { SerialQueue } from "../../base/mod.ts";
import { z } from "zod";
import { parseConfig } from "../parse_config.ts";
import { parseRunConfig, type RunConfig } from "./run_config.ts";
import { type RunEvent, runEventSchema } from "./run_events.ts";
import { RunConflictError } from "./run_errors.ts";
import { fromDisk, onDisk, partOf } from "./_disk.ts";
import { writeWhole } from "./_write_whole.ts";

const frozenSchema = z.strictObject({ createdAt: z.iso.datetime(), config: z.unknown() });

/**
 * A run's folder: `config.json` as frozen at the start, `events.jsonl`, `checkpoints/` and `samples/`. What it says
 * is the truth; everything in memory can be made again from it.
 */
export class RunFolder {
  readonly path: string;
  readonly #writing = new SerialQueue();

  constructor(path: string) {
    this.path = path;
  }

  get checkpoints(): string {
    return join(this.path, "checkpoints");
  }

  get #config(): string {
    return join(this.path, "config.json");
  }

  get #log(): string {
    return join(this.path, "events.jsonl");
  }

  /**
   * Makes the folder and lets `first` write its log's first event; the configuration appears last and whole, so a folder
   * with one is a run. Where that fails nothing is left.
   */
  async create(
    { config, createdAt, first }: {
      readonly config: RunConfig;
      readonly createdAt: string;
      readonly first: () => Promise<void>;
    },
  ): Promise<void> {
    // A folder that somebody made before is left to them.
    const { path } = this;
    if (await this.#holdsRun()) {
      throw new RunConflictError(`Folder ${path} holds a run already that came after the trainer`);
    }
    const isNew = await onDisk("create.folder", () => mkdir(path, { recursive: true })) !==
      undefined;
    try {
      await onDisk("create.checkpoints", () => mkdir(this.checkpoints, { recursive: true }));
      await onDisk("create.samples", () => mkdir(join(path, "samples"), { recursive: true }));
      // Of a start that was killed.
      await onDisk("create.clear", () => rm(this.#log, { force: true }));
      await first();
      const text = JSON.stringify({ createdAt, config }, null, 2);
      await writeWhole(this.#config, `${text}\n`);
    } catch (error) {
      const leftover = isNew ? [this.path] : [this.#config, this.#log, `${this.#log}.partial`];
      for (const path of leftover) {
        await onDisk("create.tidy", () => rm(path, { recursive: isNew, force: true }))
          .catch(() => {});
      }
      throw error;
    }
  }

  async #holdsRun(): Promise<boolean> {
    const path = this.#config;
    const found = await fromDisk(
      "config.stat",
      { path, absent: () => undefined },
      () => stat(path),
    );
    return found !== undefined;
  }

  /**
   * The frozen configuration; `undefined` where there is none: the folder is no run. Throws `FieldError` naming the file
   * where it was changed into something else, and `RunFileError` where it cannot be read.
   */
  async config(): Promise<{ readonly createdAt: string; readonly config: RunConfig } | undefined> {
    const file = this.#config;
    const value = await fromDisk(
      "config.read",
      { path: file, absent: () => undefined },
      async (): Promise<unknown> => JSON.parse(await readFile(file, "utf8")),
    );
    if (value === undefined) return undefined;
    const frozen = parseConfig(frozenSchema, value, { file });
    return { createdAt: frozen.createdAt, config: parseRunConfig(frozen.config, { file }) };
  }

  /**
   * The event log. A last line cut short by a crash is taken out of it; throws where another is damaged, and
   * `RunFileError` where it cannot be read or is gone: a run's folder had one before it had a configuration.
   */
  async events(): Promise<RunEvent[]> {
    const text = await fromDisk("log.read", { path: this.#log }, () => readFile(this.#log, "utf8"));
    const lines = text.split("\n");
    const torn = lines.pop();
    const events = lines.map((line, i) => {
      try {
        return runEventSchema.parse(JSON.parse(line));
      } catch (cause) {
        throw new Error(`Line ${i + 1} of ${this.#log} is no event`, { cause });
      }
    });
    if (torn !== "") await this.rewrite(events);
    return events;
  }

  /** Adds a line, flushed when the promise settles. Lines come out in the order of the calls. */
  async append(event: RunEvent): Promise<void> {
    const line = linesOf([event]);
    await this.#writing.add(async () => {
      const file = await onDisk("event.open", () => open(this.#log, "a"));
      try {
        const { size } = await fromDisk("log.stat", { path: this.#log }, () => file.stat());
        try {
          await onDisk("event.write", (part) => file.appendFile(partOf(line, part)));
          await onDisk("event.flush", () => file.datasync());
        } catch (error) {
          // Half a line would swallow the next one.
          await onDisk("event.tidy", () => file.truncate(size)).catch(() => {});
          throw error;
        }
      } finally {
        await file.close();
      }
    });
  }

  /** Replaces the log: what a resumed run will do again is taken out of it. */
  async rewrite(events: readonly RunEvent[]): Promise<void> {
    const text = linesOf(events);
    await this.#writing.add(() => writeWhole(this.#log, text));
  }
}

function linesOf(events: readonly RunEvent[]): string {
  return events.map((e) => `${JSON.stringify(e)}\n`).join("");
}
