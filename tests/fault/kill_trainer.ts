import assert from "node:assert/strict";
import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "../../models/random/mod.ts";
import { ITERATION_PHASES, KillLog, type Phase } from "./_kill_log.ts";
import { progress } from "./_progress.ts";
import { IterationTime, KILLED_WITHIN, shortIterations } from "./_short_iterations.ts";
import {
  checkpointsOf,
  nameOf,
  outcome,
  startReward,
  startTrainer,
  type StepTold,
  train,
} from "./_training.ts";

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

/**
 * Of the kills, how many come at any instant of a start, and how many in a checkpoint's writes; the others come while it
 * iterates.
 */
const [OF_STARTS, OF_CHECKPOINTS] = [0.2, 0.3];
/** About as many changes of a folder are told while a checkpoint is written: one of them is the last. */
const CHANGES = 12;

/** What a kill is aimed at. */
type Aim = "start" | "checkpoint" | "iteration";

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
    await life.live("undisturbed", Infinity, { aim: "iteration" });
    const expected = await outcome(runs, "undisturbed");

    const begun = performance.now();
    for (let run = 0; log.count < kills && !signal?.aborted; run++) {
      const id = `killed-${run}`;
      const phases: Phase[] = [];
      for (;;) {
        const share = random.uniform();
        const aim: Aim = share < OF_STARTS
          ? "start"
          : share < OF_STARTS + OF_CHECKPOINTS
          ? "checkpoint"
          : "iteration";
        const enough = signal?.aborted || log.count + phases.length >= kills;
        const part = enough ? Infinity : random.uniform();
        const phase = await life.live(id, part, { aim });
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
   * @param part of the time in which it is killed: that of a start, of a checkpoint's writes, or of the iterations after
   * its first
   */
  async live(
    id: string,
    part: number,
    { aim }: { readonly aim: Aim },
  ): Promise<Phase | undefined> {
    const { runs, models, reward, fields, times } = this.#options;
    const found = await checkpointsOf(runs, id);
    const begun = Date.now();
    const trainer = startTrainer(runs, { models });
    const abort = new AbortController();
    const { signal } = abort;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let killedMs = NaN;
    const kill = () => {
      if (signal.aborted) return;
      void trainer.end();
      killedMs = Date.now();
      abort.abort();
    };
    const killIn = (ms: number) => {
      if (Number.isFinite(ms)) timer = setTimeout(kill, ms);
    };
    let watcher: Deno.FsWatcher | undefined;
    let phase: Phase = "start";
    const told: StepTold[] = [];
    if (aim === "start") killIn(part * times.start);
    times.iteration.pause();
    const onStep = (event: StepTold) => {
      const { step, atMs } = event;
      // Steps of earlier lives are told again.
      if (atMs < begun || step === 0) return;
      times.iteration.add(atMs);
      told.push(event);
      if (phase === "iteration") return;
      phase = "iteration";
      assert.equal(step, found.last + 1, `${id} goes on after its last checkpoint`);
      times.start = atMs - begun;
      if (aim === "iteration") killIn(part * KILLED_WITHIN * times.iteration.ms);
      if (aim === "checkpoint" && Number.isFinite(part)) {
        watcher = Deno.watchFs(join(runs, id, "checkpoints"));
        void atChange(watcher, { count: 1 + Math.floor(part * CHANGES), then: kill });
      }
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
      watcher?.close();
      await trainer.end();
    }
    const { attempts: left, last: newest } = await checkpointsOf(runs, id);
    if (left.some((attempt) => !found.attempts.includes(attempt))) return "checkpoint";
    const last = told.at(-1);
    if (last === undefined) return phase;
    // The iteration began when the one before, or its checkpoint, was done.
    const written = await stat(join(runs, id, "checkpoints", nameOf(newest))).catch(() =>
      undefined
    );
    return phaseAt(killedMs - Math.max(last.atMs, written?.mtimeMs ?? 0), last.seconds);
  }
}

/** The part of an iteration so many milliseconds after its beginning, by what the parts of the one before took. */
export function phaseAt(ms: number, seconds: Readonly<Record<string, number>>): Phase {
  let left = ms / 1000;
  for (const phase of ITERATION_PHASES) {
    left -= seconds[phase] ?? 0;
    if (left < 0) return phase;
  }
  return "update";
}

/** Waits for so many changes in attempts at a checkpoint. */
async function atChange(
  watcher: Deno.FsWatcher,
  { count, then }: { readonly count: number; readonly then: () => void },
): Promise<void> {
  let left = count;
  for await (const { paths } of watcher) {
    left -= paths.filter((path) => path.includes("/.attempt-")).length;
    if (left <= 0) return then();
  }
}
