import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "../../models/random/mod.ts";
import { progress } from "./_progress.ts";
import { outcome, startReward, startTrainer, stepsDone, train } from "./_training.ts";

/** How services are killed. */
export interface KillOptions {
  /** How many kill -9 there are. */
  readonly kills: number;
  /** Of the instants. */
  readonly seed: number;
  /** An empty folder. */
  readonly runs: string;
  readonly say: (line: string) => void;
}

/**
 * Kills a trainer at random instants: while it starts, loads, trains, writes. Each time another one goes on with what
 * is there. Throws unless every run ends with the bytes of an undisturbed one. Answers the number of runs.
 */
export async function killTrainer({ kills, seed, runs, say }: KillOptions): Promise<number> {
  const random = new Random(seed);
  const server = startReward();
  try {
    const { address: reward } = await server.ready;
    const begun = performance.now();
    const first = startTrainer(runs);
    await train((await first.ready).address, { id: "undisturbed", reward });
    let span = performance.now() - begun;
    await first.end("SIGTERM");
    const expected = await outcome(runs, "undisturbed");
    say(`undisturbed: ${(span / 1000).toFixed(1)} s`);

    let killed = 0;
    const start = performance.now();
    let run = 0;
    for (; killed < kills; run++) {
      const id = `killed-${run}`;
      for (let done = false; !done;) {
        // Once there were enough, the last run may end.
        const ms = killed < kills ? 0.8 * random.uniform() * span : 2 ** 31 - 1;
        done = await oneLife(runs, { id, reward, ms });
        // Lives last as long as it takes for some to end a run and most not, however busy the machine is.
        span *= done ? 0.85 : 1.05;
        if (done) continue;
        const step = await stepsDone(runs, id);
        killed++;
        const after = `after ${(ms / 1000).toFixed(2)} s, at step ${step}`;
        say(`kill ${progress(killed, { of: kills, begun: start })} (${id} ${after})`);
      }
      assert.deepEqual(await outcome(runs, id), expected, id);
      await rm(join(runs, id), { recursive: true });
    }
    return run;
  } finally {
    await server.end();
  }
}

/** Starts a trainer, lets it train, kills it after `ms`. Answers whether the run ended before. */
async function oneLife(
  runs: string,
  { id, reward, ms }: { readonly id: string; readonly reward: string; readonly ms: number },
): Promise<boolean> {
  const trainer = startTrainer(runs);
  const abort = new AbortController();
  const { signal } = abort;
  const timer = setTimeout(() => {
    abort.abort();
    void trainer.end();
  }, ms);
  try {
    const { address } = await trainer.ready;
    await train(address, { id, reward, signal });
    return true;
  } catch (error) {
    if (signal.aborted) return false;
    throw error;
  } finally {
    clearTimeout(timer);
    await trainer.end();
  }
}
