/**
 * `deno task measure-cluster`: measures iterations of a tiny model on 1, 2, 4 and 8 workers of this machine and prints
 * them beside the simulator's. Rewards wait rather than compute, so that a few cores stand for eight machines, as far as
 * nobody else uses them. It takes a quarter of an hour.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { simulateCluster, USUAL_COSTS } from "../../trainer/mod.ts";
import { train, type Victim } from "../fault/mod.ts";
import { startClusterTrainer, startWorker } from "./_cluster_services.ts";
import { NatsServer } from "./_nats_server.ts";
import { startWaitingReward } from "./_waiting_reward.ts";

/** Images of an iteration, each a shard of its own. */
const IMAGES = 8;
const ITERATIONS = 4;
const WORKERS = [1, 2, 4, 8];
/** How long a reward waits for an image, and how many calls it answers at a time. */
const REWARDS = [{ seconds: 12, places: 64 }, { seconds: 3, places: 2 }];

const lineSchema = z.looseObject({
  type: z.string(),
  seconds: z.record(z.string(), z.number()).optional(),
});

/** Mean seconds by phase of a run's iterations but the first, of all shards together; and "total". */
async function phasesOf(folder: string): Promise<Record<string, number>> {
  const lines = (await readFile(join(folder, "events.jsonl"), "utf8")).trim().split("\n");
  const steps = lines.map((line) => lineSchema.parse(JSON.parse(line))).flatMap((event) =>
    event.type === "step" && event.seconds?.total !== undefined ? [event.seconds] : []
  ).slice(1);
  const names = [...new Set(steps.flatMap((seconds) => Object.keys(seconds)))];
  return Object.fromEntries(names.map((name) => [
    name,
    steps.reduce((sum, seconds) => sum + (seconds[name] ?? 0), 0) / steps.length,
  ]));
}

/**
 * What the simulator makes of the shards' own time, as it was in a run: it is to say how long all take together. The rest
 * of an iteration with one worker is counted as the trainer's.
 */
function predicted(
  phases: Readonly<Record<string, number>>,
  { workers, reward: { seconds, places }, rest }: {
    readonly workers: number;
    readonly reward: (typeof REWARDS)[number];
    readonly rest: number;
  },
): number {
  const { sample = 0, decode = 0 } = phases;
  const own = ownSeconds(phases);
  const { secondsPerIteration } = simulateCluster(
    {
      shard: {
        ...{ fixed: 0, perImage: own / IMAGES, spread: 0 },
        beforeReward: (sample + decode) / own,
      },
      adapt: 0,
      reward: { replicas: places, perCall: 0, perImage: seconds },
      adapterBytes: 0,
      network: USUAL_COSTS.network,
      trainer: { ...USUAL_COSTS.trainer, perIteration: rest },
    },
    { workers, batchSize: IMAGES, accumulation: 1, shardImages: 1 },
    {
      ...{ iterations: ITERATIONS, seed: 1 },
    },
  );
  return secondsPerIteration;
}

/** Seconds of all shards, without rewards. */
function ownSeconds({ reward: _, total: __, update: ___, ...phases }: Record<string, number>) {
  return Object.values(phases).reduce((a, b) => a + b, 0);
}

console.log("reward   places  workers  measured  simulated  ratio");
for (const reward of REWARDS) {
  const { seconds, places } = reward;
  let rest = 0;
  for (const workers of WORKERS) {
    const folder = await Deno.makeTempDir({ prefix: "drtune-measure-" });
    const nats = await NatsServer.start(folder);
    const server = await startWaitingReward(reward);
    const trainer = startClusterTrainer(join(folder, "runs"), nats.address);
    const victims: Victim[] = [trainer];
    try {
      const { address } = await trainer.ready;
      for (let i = 0; i < workers; i++) {
        victims.push(startWorker(nats.address, { name: `w${i}` }));
      }
      await Promise.all(victims.map(({ ready }) => ready));
      await train(address, {
        ...{ id: "run", reward: server.address, iterations: ITERATIONS },
        fields: {
          ...{ shard: { images: 1 }, batch: { size: IMAGES } },
          ...{ checkpointEvery: 0, sampleEvery: 0 },
        },
      });
      const phases = await phasesOf(join(folder, "runs", "run"));
      const { total = 0 } = phases;
      if (workers === 1) rest = Math.max(0, total - ownSeconds(phases) - IMAGES * seconds);
      const simulated = predicted(phases, { workers, reward, rest });
      const cells = [`${seconds} s`, places, workers, total.toFixed(2), simulated.toFixed(2)];
      const line = [...cells, (simulated / total).toFixed(2)].map((cell) =>
        String(cell).padStart(9)
      );
      console.log(line.join(""));
    } finally {
      await Promise.all(victims.map((victim) => victim.end()));
      await server.stop({ drainSeconds: 0 });
      await nats.kill();
      await Deno.remove(folder, { recursive: true });
    }
  }
}
