/**
 * `deno task measure-cluster [FILE]`: measures iterations of a tiny model on 1, 2, 4 and 8 workers of this machine, whose
 * rewards wait rather than compute, and writes them to FILE (tests/cluster/times.json), which the simulator is compared
 * with. Workers take little of the processor, so that a few cores stand for eight machines; it takes a quarter of an hour.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
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

const file = Deno.args[0] ?? new URL("times.json", import.meta.url);
const measured = [];
for (const { seconds, places } of REWARDS) {
  const runs = [];
  for (const workers of WORKERS) {
    const folder = await Deno.makeTempDir({ prefix: "drtune-measure-" });
    const nats = await NatsServer.start(folder);
    const reward = await startWaitingReward({ seconds, places });
    const trainer = startClusterTrainer(join(folder, "runs"), nats.address);
    const victims: Victim[] = [trainer];
    try {
      const { address } = await trainer.ready;
      for (let i = 0; i < workers; i++) {
        victims.push(startWorker(nats.address, { name: `w${i}` }));
      }
      await Promise.all(victims.map(({ ready }) => ready));
      await train(address, {
        ...{ id: "run", reward: reward.address, iterations: ITERATIONS },
        fields: {
          ...{ shard: { images: 1 }, batch: { size: IMAGES } },
          ...{ checkpointEvery: 0, sampleEvery: 0 },
        },
      });
      const phases = await phasesOf(join(folder, "runs", "run"));
      runs.push({ workers, phases });
      console.error(`${seconds} s, ${places} at a time, ${workers} workers: ${phases["total"]} s`);
    } finally {
      await Promise.all(victims.map((victim) => victim.end()));
      await reward.stop({ drainSeconds: 0 });
      await nats.kill();
      await Deno.remove(folder, { recursive: true });
    }
  }
  measured.push({ reward: { seconds, places }, images: IMAGES, runs });
}
await Deno.writeTextFile(file, `${JSON.stringify(measured, null, 2)}\n`);
