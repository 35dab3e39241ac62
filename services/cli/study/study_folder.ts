import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { MeasuredRun } from "./measure_run.ts";

const scores = z.record(z.string(), z.number()).readonly();
const curvePoint = z.object({ step: z.int(), compute: z.number(), rewards: scores });

const pictureSchema = z.object({ prompt: z.string(), seed: z.int(), scores });

/** What is kept of a run: how it trained and how its pictures were judged. */
const runResultSchema = z.object({
  id: z.string(),
  cell: z.record(z.string(), z.string()).readonly(),
  seed: z.int(),
  candidate: z.string().optional(),
  budget: z.number(),
  iterations: z.int(),
  compute: z.number(),
  rewardSeconds: z.number(),
  wallSeconds: z.number(),
  /** Seconds by the clock for everything, loading and measuring too. */
  allSeconds: z.number(),
  curve: z.array(curvePoint).readonly(),
  panel: z.array(
    curvePoint.extend({
      heldOut: z.array(z.string()).readonly(),
      diversity: z.number(),
      alarm: z.string(),
    }),
  ).readonly(),
  config: z.unknown(),
  pictures: z.array(pictureSchema).readonly(),
});

export type RunResult = z.infer<typeof runResultSchema>;

/** Pictures of a model without a LoRA. */
const baselineSchema = z.object({ key: z.string(), pictures: z.array(pictureSchema).readonly() });

export type Baseline = z.infer<typeof baselineSchema>;

/** Most prompts whose picture is kept to be shown. */
const SHOWN = 8;

/**
 * A study on disk: `results/` has a file for each run that is done, `pictures/` what is shown of it, `runs/` the runs
 * themselves. A file is there as a whole or not at all.
 */
export class StudyFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** A run's result; undefined where it is not done. */
  async result(id: string): Promise<RunResult | undefined> {
    return await this.readJson(`results/${id}.json`, runResultSchema);
  }

  async writeResult(result: RunResult, shown: MeasuredRun["shown"]): Promise<void> {
    await this.#writePictures(result.id, shown);
    await this.#write(`results/${result.id}.json`, result);
  }

  /** Pictures without LoRA of these settings; undefined where they are not drawn. */
  async baseline(key: string): Promise<Baseline | undefined> {
    return await this.readJson(`results/without-${key}.json`, baselineSchema);
  }

  async writeBaseline(baseline: Baseline, shown: MeasuredRun["shown"]): Promise<void> {
    await this.#writePictures(`without-${baseline.key}`, shown);
    await this.#write(`results/without-${baseline.key}.json`, baseline);
  }

  /** Pictures that are kept of a run, or of "without-KEY"; as PNG files, in the prompts' order. */
  async pictures(name: string): Promise<readonly Uint8Array[]> {
    const read = Array.from(
      { length: SHOWN },
      (_, i) => this.readFile(`pictures/${name}/${i}.png`),
    );
    return (await Promise.all(read)).filter((png) => png !== undefined);
  }

  /** Writes a file as a whole; its folder is made where it is not there. */
  async writeFile(name: string, content: string | Uint8Array): Promise<void> {
    const path = join(this.path, name);
    await mkdir(join(path, ".."), { recursive: true });
    await writeFile(`${path}.new`, content);
    await rename(`${path}.new`, path);
  }

  async #writePictures(name: string, shown: MeasuredRun["shown"]): Promise<void> {
    for (const [i, png] of [...shown.values()].slice(0, SHOWN).entries()) {
      await this.writeFile(`pictures/${name}/${i}.png`, png);
    }
  }

  /** A file of the folder; undefined where it is not there. */
  async readFile(name: string): Promise<Uint8Array | undefined> {
    return await readFile(join(this.path, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw error;
    });
  }

  /** A result in a JSON file; undefined where it is not there. Throws where the file holds something else. */
  async readJson<T>(name: string, schema: z.ZodType<T>): Promise<T | undefined> {
    const bytes = await this.readFile(name);
    if (bytes === undefined) return undefined;
    try {
      return schema.parse(JSON.parse(new TextDecoder().decode(bytes)));
    } catch (cause) {
      throw new Error(
        `${join(this.path, name)} is no result of a study: delete it, and it is measured again`,
        {
          cause,
        },
      );
    }
  }

  async #write(name: string, value: unknown): Promise<void> {
    await this.writeFile(name, `${JSON.stringify(value)}\n`);
  }
}
