import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { steadyPort } from "../support/mod.ts";
import { Random } from "../../models/random/mod.ts";
import { KillLog } from "./_kill_log.ts";
import { progress } from "./_progress.ts";
import { IterationTime, KILLED_WITHIN, shortIterations } from "./_short_iterations.ts";
import { outcome, startReward, startTrainer, train } from "./_training.ts";
import type { KillOptions } from "./kill_trainer.ts";

/** Longest time a killed server stays away, in milliseconds. */
const AWAY_MS = 500;

/**
 * Kills the reward server of a trainer at random instants and starts it again after a random while. Throws unless the
 * trainer finds it each time, and every run ends with the bytes of an undisturbed one.
 */
export async function killReward(
  { kills, seed, folder, say, signal, overTls = false }: KillOptions & {
    readonly overTls?: boolean;
  },
): Promise<string> {
  const log = await KillLog.open(folder);
  const before = log.count;
  const random = new Random(seed, before);
  const { models, runs, fields } = await shortIterations(folder);
  await rm(runs, { recursive: true, force: true });
  const port = steadyPort();
  let server = startReward(port, { overTls });
  const trainer = startTrainer(runs, { models });
  try {
    const { address: bound } = await server.ready;
    const reward = overTls ? `grpcs://${bound}` : bound;
    const { address } = await trainer.ready;
    const time = new IterationTime();
    /** Told when the next iteration has ended. */
    let stepped = Promise.withResolvers<void>();
    const options = {
      ...{ reward, fields },
      onStep({ atMs }: { readonly atMs: number }) {
        time.add(atMs);
        stepped.resolve();
      },
    };
    await train(address, { id: "undisturbed", ...options });
    const expected = await outcome(runs, "undisturbed");

    const begun = performance.now();
    for (let run = 0; log.count < kills && !signal?.aborted; run++) {
      const id = `killed-${run}`;
      let killed = 0;
      let ended = false;
      const training = train(address, { id, ...options }).finally(() => ended = true);
      const untilStep = () => {
        stepped = Promise.withResolvers();
        return Promise.race([stepped.promise, training]);
      };
      await untilStep();
      while (log.count + killed < kills && !signal?.aborted) {
        await Promise.race([pause(random.uniform() * KILLED_WITHIN * time.ms), training]);
        if (ended) break;
        await server.end();
        killed++;
        const done = log.count + killed - before;
        say(`kill ${progress(done, { of: kills - before, begun })} (${id})`);
        time.pause();
        await pause(random.uniform() * AWAY_MS);
        server = startReward(port, { overTls });
        await server.ready;
        await untilStep();
      }
      await training;
      assert.deepEqual(await outcome(runs, id), expected, id);
      await log.add(Array.from({ length: killed }, () => "serving"));
      await rm(join(runs, id), { recursive: true });
    }
    return log.spread();
  } finally {
    await Promise.all([server.end(), trainer.end()]);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
