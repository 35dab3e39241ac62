import assert from "node:assert/strict";
import { outcome, startReward, startTrainer, train, type Victim } from "../fault/mod.ts";
import { NATS_SERVER, NatsServer } from "./_nats_server.ts";
import { startClusterTrainer, startWorker } from "./_cluster_services.ts";

/** Two batches of two shards each. */
const fields = { shard: { images: 1 }, batch: { size: 2, accumulation: 2 }, drift: { weight: 1 } };

const needsNats = { ignore: NATS_SERVER === undefined };

Deno.test({
  name: "A run's LoRA is the same to the bit for no worker, one and two",
  ...needsNats,
  fn: async () => {
    const folder = await Deno.makeTempDir({ prefix: "drtune-cluster-" });
    const nats = await NatsServer.start(folder);
    const reward = startReward();
    const victims: Victim[] = [reward];
    const start = (victim: Victim) => {
      victims.push(victim);
      return victim;
    };
    try {
      const { address } = await reward.ready;
      const alone = start(startTrainer(`${folder}/alone`));
      await train((await alone.ready).address, { id: "run", reward: address, fields });
      await alone.end("SIGTERM");
      const expected = await outcome(`${folder}/alone`, "run");

      const trainer = start(startClusterTrainer(`${folder}/cluster`, nats.address));
      const { address: leader } = await trainer.ready;
      const first = start(startWorker(nats.address, { name: "w1" }));
      await train(leader, { id: "one", reward: address, fields });
      start(startWorker(nats.address, { name: "w2" }));
      await train(leader, { id: "two", reward: address, fields });
      for (const id of ["one", "two"]) {
        assert.deepEqual(await outcome(`${folder}/cluster`, id), expected, id);
      }
      await first.end("SIGTERM");
    } finally {
      for (const victim of victims) await victim.end();
      await nats.kill();
      await Deno.remove(folder, { recursive: true });
    }
  },
});
