import { appendFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeWhole } from "./checkpoint.ts";
import { parseRunConfig, type RunConfig } from "./run_config.ts";
import type { RunEvent } from "./run_events.ts";

/**
 * A run's folder: `config.json` as frozen at the start, `events.jsonl`, `checkpoints/` and `samples/`. What it says
 * is the truth; everything in memory can be made again from it.
 */
export class RunFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  get checkpoints(): string {
    return join(this.path, "checkpoints");
  }

  /** Makes the folder; the configuration appears last and whole, so a folder with one is a run. */
  async create(config: RunConfig, createdAt: string): Promise<void> {
    await mkdir(this.checkpoints, { recursive: true });
    await mkdir(join(this.path, "samples"), { recursive: true });
    await writeWhole(
      join(this.path, "config.json"),
      `${JSON.stringify({ createdAt, config }, null, 2)}\n`,
    );
  }

  /** The frozen configuration. Throws `FieldError` where the file was changed into something else. */
  async config(): Promise<{ readonly createdAt: string; readonly config: RunConfig }> {
    const text = await readFile(join(this.path, "config.json"), "utf8");
    const { createdAt, config }: { createdAt: unknown; config: unknown } = JSON.parse(text);
    return { createdAt: String(createdAt), config: parseRunConfig(config) };
  }

  /** The event log. A last line cut short by a crash is dropped. */
  async events(): Promise<RunEvent[]> {
    const text = await readFile(join(this.path, "events.jsonl"), "utf8").catch(() => "");
    return text.split("\n").flatMap((line): RunEvent[] => {
      if (line === "") return [];
      try {
        return [JSON.parse(line)];
      } catch {
        return [];
      }
    });
  }

  async append(event: RunEvent): Promise<void> {
    await appendFile(join(this.path, "events.jsonl"), `${JSON.stringify(event)}\n`);
  }

  /** Replaces the log: what a resumed run will do again is taken out of it. */
  async rewrite(events: readonly RunEvent[]): Promise<void> {
    await writeWhole(
      join(this.path, "events.jsonl"),
      events.map((e) => `${JSON.stringify(e)}\n`).join(""),
    );
  }
}
