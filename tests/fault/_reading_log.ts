import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

const readingSchema = z.strictObject({
  /** Which of the processes that this was done with, from 0. */
  life: z.int().min(0),
  /** Requests that were answered since the reading before. */
  answered: z.int().min(0),
  /** Requests that waited for an answer when the load was answered. */
  inFlight: z.int().min(0),
  /** Resident memory in MiB; absent where the system does not tell. */
  resident: z.strictObject({ server: z.number(), worker: z.number() }).optional(),
  /** What the server held of its memory when it had given back the rest, in MiB: after each tenth load of a process. */
  held: z.number().optional(),
});

/** What was seen after a load of a reward. */
export type Reading = z.infer<typeof readingSchema>;

/** Readings so far, in a file, so that whoever goes on after a stop knows how many are left. */
export class ReadingLog {
  readonly #file: string;
  readonly #readings: Reading[];
  readonly #failures: string;
  /** The present process. */
  readonly life: number;
  /** What ended a call, a line each. */
  readonly failures: readonly string[];

  private constructor(
    { file, readings, failures, failed }: {
      readonly file: string;
      readonly readings: Reading[];
      readonly failures: string;
      readonly failed: readonly string[];
    },
  ) {
    this.#file = file;
    this.#readings = readings;
    this.#failures = failures;
    this.failures = failed;
    this.life = 1 + (readings.at(-1)?.life ?? -1);
  }

  static async open(folder: string): Promise<ReadingLog> {
    const file = join(folder, "readings.jsonl");
    const lines = (await readFile(file, "utf8").catch(() => "")).split("\n");
    // The last line may be half of one, of a process that was killed.
    const whole = lines.slice(0, -1);
    await writeFile(file, whole.map((line) => `${line}\n`).join(""));
    const failures = join(folder, "failures.txt");
    const failed = (await readFile(failures, "utf8").catch(() => "")).split("\n");
    return new ReadingLog({
      ...{ file, failures },
      readings: whole.map((line) => readingSchema.parse(JSON.parse(line))),
      failed: failed.filter((line) => line !== ""),
    });
  }

  get count(): number {
    return this.#readings.length;
  }

  async add(reading: Omit<Reading, "life">): Promise<void> {
    const whole = { life: this.life, ...reading };
    this.#readings.push(whole);
    await appendFile(this.#file, `${JSON.stringify(whole)}\n`);
  }

  /** Does work; what it throws is kept, so that a later call cannot hide it. */
  async keep(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      await appendFile(this.#failures, `${String(error).replaceAll("\n", " ")}\n`);
      throw error;
    }
  }

  /** All readings, those of each process by themselves: a process begins with fresh memory. */
  lives(): Reading[][] {
    return [...Map.groupBy(this.#readings, ({ life }) => life).values()];
  }
}
