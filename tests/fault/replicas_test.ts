import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { outcome, startTrainer, stepsDone, train } from "./_training.ts";
import { Victim } from "./_victim.ts";

/** A reward whose scores depend on how many images run together, were that not forbidden. */
function startReplica(): Victim {
  return new Victim("services/reward/main.ts", [
    ...["--port", "0", "--reward", '{"kind":"clip","weights":"zoo/rewards/clip"}'],
    ...["--settings", '{"reproducible":true,"threads":1}'],
  ]);
}

Deno.test(
  "Of three replicas one is killed and one hangs: the run does not pause, and its LoRA is that of one server, to the bit",
  {
    ignore: Deno.build.os === "windows",
  },
  async () => {
    const runs = await Deno.makeTempDir({ prefix: "drtune-fault-" });
    const replicas = [startReplica(), startReplica(), startReplica()];
    const trainer = startTrainer(runs);
    try {
      const addresses = await Promise.all(
        replicas.map(async ({ ready }) => (await ready).address),
      );
      const { address } = await trainer.ready;
      await train(address, { id: "one", reward: addresses[0] ?? "" });
      const expected = await outcome(runs, "one");

      await train(address, { id: "three", reward: addresses.join(",") });
      assert.deepEqual(await outcome(runs, "three"), expected);

      const training = train(address, { id: "hurt", reward: addresses.join(",") });
      const reached = async (steps: number) => {
        while (await stepsDone(runs, "hurt") < steps) {
          await Promise.race([training, new Promise((resolve) => setTimeout(resolve, 10))]);
        }
      };
      await reached(2);
      await replicas[0]?.end();
      await reached(4);
      Deno.kill(replicas[1]?.pid ?? 0, "SIGSTOP");
      await training;
      const found = await outcome(runs, "hurt");
      assert.deepEqual(found.losses, expected.losses);
      assert.ok(found.lora.equals(expected.lora) && found.optimizer.equals(expected.optimizer));
      const log = await readFile(join(runs, "hurt", "events.jsonl"), "utf8");
      assert.doesNotMatch(log, /"state":"paused"/);
    } finally {
      // SIGKILL ends a stopped process too.
      await Promise.all([...replicas, trainer].map((process) => process.end()));
      await Deno.remove(runs, { recursive: true });
    }
  },
);
