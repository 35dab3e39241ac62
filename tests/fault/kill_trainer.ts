import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "../../models/random/mod.ts";
import { KillLog, type Phase } from "./_kill_log.ts";
import { progress } from "./_progress.ts";
import { IterationTime, KILLED_WITHIN, shortIterations } from "./_short_iterations.ts";
import { checkpointsOf, outcome, startReward, startTrainer, train } from "./_training.ts";

/** How services are killed. */
export interface KillOptions {
  /** How many kill -9 there are, those included that an earlier call did in this folder. */
  readonly kills: number;
  /** Of the instants. */
  readonly seed: number;
  /** An empty folder, or that of a call that was ended. */
  readonly folder: string;
  readonly say: (line: string) => void;
  /** Ends the kills: the present runs end undisturbed, are compared and count. */
  readonly signal?: AbortSignal;
}

/** Of the kills, how many come at any instant of a start; the others while it iterates. */
const OF_STARTS = 0.2;

/**
 * Kills a trainer at random instants: while it starts, loads, trains, writes. Each time another one goes on with what
 * is there. Throws unless each goes on after the last checkpoint that is there, and every run ends with the bytes of an
 * undisturbed one. Answers how the instants were spread.
 */
export async function killTrainer(
  { kills, seed, folder, say, signal }: KillOptions,
): Promise<string> {
  const log = await KillLog.open(folder);
  const before = log.count;
  const random = new Random(seed, before);
  const { models, runs, fields } = await shortIterations(folder);
  await rm(runs, { recursive: true, force: true });
  const server = startReward();
  try {
    const { address: reward } = await server.ready;
    const times = { start: NaN, iteration: new IterationTime() };
    const life = new Life({ runs, models, reward, fields, times });
    await life.live("undisturbed", Infinity, { early: false });
    const expected = await outcome(runs, "undisturbed");

    const begun = performance.now();
    for (let run = 0; log.count < kills && !signal?.aborted; run++) {
      const id = `killed-${run}`;
      const phases: Phase[] = [];
      for (;;) {
        const early = random.uniform() < OF_STARTS;
        const enough = signal?.aborted || log.count + phases.length >= kills;
        const part = enough ? Infinity : random.uniform();
        const phase = await life.live(id, part, { early });
        if (phase === undefined) break;
        phases.push(phase);
        const done = log.count + phases.length - before;
        say(`kill ${progress(done, { of: kills - before, begun })} (${id}: ${phase})`);
      }
      assert.deepEqual(await outcome(runs, id), expected, id);
      await log.add(phases);
      await rm(join(runs, id), { recursive: true });
    }
    return log.spread();
  } finally {
    await server.end();
  }
}

interface LifeOptions {
  readonly runs: string;
  readonly models: string;
  readonly reward: string;
  readonly fields: Awaited<ReturnType<typeof shortIterations>>["fields"];
  /** From a start to its first iteration's end, in milliseconds, and of an iteration, as they were lately. */
  readonly times: { start: number; readonly iteration: IterationTime };
}

/** Lives of trainers over one folder. */
class Life {
  readonly #options: LifeOptions;

  constructor(options: LifeOptions) {
    this.#options = options;
  }

  /**
   * Starts a trainer, lets it train, kills it. Answers what it was at; undefined where the run has ended before.
   *
   * @param part of the time in which it is killed: that of a start, or of the iterations after its first
   */
  async live(
    id: string,
    part: number,
    { early }: { readonly early: boolean },
  ): Promise<Phase | undefined> {
    const { runs, models, reward, fields, times } = this.#options;
    const found = await checkpointsOf(runs, id);
    const begun = Date.now();
    const trainer = startTrainer(runs, { models });
    const abort = new AbortController();
    const { signal } = abort;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const killIn = (ms: number) => {
      if (!Number.isFinite(ms)) return;
      timer = setTimeout(() => {
        abort.abort();
        void trainer.end();
      }, ms);
    };
    let phase: Phase = "start";
    if (early) killIn(part * times.start);
    times.iteration.pause();
    const onStep = ({ step, atMs }: { readonly step: number; readonly atMs: number }) => {
      // Steps of earlier lives are told again.
      if (atMs < begun || step === 0) return;
      times.iteration.add(atMs);
      if (phase === "iteration") return;
      phase = "iteration";
      assert.equal(step, found.last + 1, `${id} goes on after its last checkpoint`);
      times.start = atMs - begun;
      if (!early) killIn(part * KILLED_WITHIN * times.iteration.ms);
    };
    try {
      const { address } = await trainer.ready;
      phase = "load";
      await train(address, { id, reward, fields, signal, onStep });
      return undefined;
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      clearTimeout(timer);
      await trainer.end();
    }
    const left = (await checkpointsOf(runs, id)).attempts;
    return left.some((attempt) => !found.attempts.includes(attempt)) ? "checkpoint" : phase;
  }
}
