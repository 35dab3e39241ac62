import { appendFile, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Parts of an iteration, in their order, as its event names their seconds. */
export const ITERATION_PHASES = ["sample", "decode", "reward", "gradient", "update"] as const;

/** What a process was at when it was killed; "iteration" where earlier versions did not tell its part. */
export const PHASES = [
  ...["start", "load", "iteration"] as const,
  ...ITERATION_PHASES,
  ...["checkpoint", "serving"] as const,
] as const;
export type Phase = (typeof PHASES)[number];

/** Kills so far, in a file, so that whoever goes on after a stop knows how many are left. */
export class KillLog {
  readonly #file: string;
  readonly #phases: Phase[];

  private constructor(file: string, phases: Phase[]) {
    this.#file = file;
    this.#phases = phases;
  }

  static async open(folder: string): Promise<KillLog> {
    const file = join(folder, "kills.txt");
    const lines = (await readFile(file, "utf8").catch(() => "")).split("\n");
    return new KillLog(file, lines.flatMap((line) => PHASES.find((phase) => phase === line) ?? []));
  }

  get count(): number {
    return this.#phases.length;
  }

  /** Adds the kills of a run, which has come to the bytes it should. */
  async add(phases: readonly Phase[]): Promise<void> {
    this.#phases.push(...phases);
    await appendFile(this.#file, phases.map((phase) => `${phase}\n`).join(""));
  }

  /** "12 start, 30 load, ...": how the instants are spread. */
  spread(): string {
    return PHASES.flatMap((phase) => {
      const count = this.#phases.filter((p) => p === phase).length;
      return count === 0 ? [] : [`${count} ${phase}`];
    }).join(", ");
  }
}
