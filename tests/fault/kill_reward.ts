import assert from "node:assert/strict";
import { Random } from "../../models/random/mod.ts";
import { progress } from "./_progress.ts";
import { outcome, startReward, startTrainer, train } from "./_training.ts";
import type { KillOptions } from "./kill_trainer.ts";

/** Longest time a killed server stays away, in milliseconds. */
const AWAY_MS = 500;

/**
 * Kills the reward server of a trainer at random instants and starts it again after a random while. Throws unless every
 * run ends with the bytes of an undisturbed one. Answers the number of runs.
 */
export async function killReward({ kills, seed, runs, say }: KillOptions): Promise<number> {
  const random = new Random(seed);
  let server = startReward();
  const trainer = startTrainer(runs);
  try {
    const { address: reward } = await server.ready;
    const { address } = await trainer.ready;
    const begun = performance.now();
    await train(address, { id: "undisturbed", reward });
    const span = performance.now() - begun;
    const expected = await outcome(runs, "undisturbed");
    say(`undisturbed: ${(span / 1000).toFixed(1)} s`);

    let killed = 0;
    const start = performance.now();
    let run = 0;
    for (; killed < kills; run++) {
      const id = `killed-${run}`;
      let ended = false;
      const training = train(address, { id, reward }).finally(() => ended = true);
      while (killed < kills) {
        await Promise.race([pause(0.5 * random.uniform() * span), training]);
        if (ended) break;
        await server.end();
        killed++;
        say(`kill ${progress(killed, { of: kills, begun: start })} (${id})`);
        await pause(random.uniform() * AWAY_MS);
        server = startReward(Number(reward.split(":")[1]));
        await server.ready;
      }
      await training;
      assert.deepEqual(await outcome(runs, id), expected, id);
    }
    return run;
  } finally {
    await Promise.all([server.end(), trainer.end()]);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
