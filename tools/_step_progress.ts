import { duration, Progress } from "../services/cli/mod.ts";
import type { RunPlan } from "../trainer/mod.ts";

const TICK_MS = 5000;

/** Progress of one step on stderr: the graph that runs, how many have, time gone and left. */
export class StepProgress {
  readonly #begun = performance.now();
  readonly #progress = new Progress();
  readonly #timer = setInterval(() => this.#show(), TICK_MS);
  /** Estimated seconds of each graph that is to run, in order. */
  readonly #graphs: readonly number[];
  #started = 0;
  #graph = "";

  constructor({ phases }: Pick<RunPlan, "phases">) {
    this.#graphs = phases.filter(({ name }) => name !== "text").flatMap(
      ({ name, runs, pieces, seconds }) => {
        // All pieces forward, and the last one once for its value and gradient.
        const each = name.endsWith("gradient") ? 2 * pieces - 1 : pieces;
        const count = Math.round(runs * each);
        return Array.from({ length: count }, () => seconds / count);
      },
    );
  }

  /** A graph begins to run. */
  begin(graph: string): void {
    // Encoding the prompts is no part of the estimate worth showing.
    if (!graph.startsWith("text")) this.#started++;
    this.#graph = graph;
    this.#show();
  }

  end(): void {
    clearInterval(this.#timer);
    this.#progress.end();
  }

  #show(): void {
    if (this.#graph === "") return;
    const total = this.#graphs.length;
    const done = Math.min(Math.max(0, this.#started - 1), total - 1);
    const sum = (seconds: readonly number[]) => seconds.reduce((a, b) => a + b, 0);
    const spent = (performance.now() - this.#begun) / 1000;
    const past = sum(this.#graphs.slice(0, done));
    const all = sum(this.#graphs);
    // The pace so far, once it says more than the estimate.
    const secondsLeft = past > all / 20 ? (all - past) * spent / past : all - past;
    this.#progress.update({
      done,
      total,
      secondsLeft,
      note: `${duration(spent)} gone  ${this.#graph}`,
    });
  }
}
