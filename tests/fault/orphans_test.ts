import assert from "node:assert/strict";
import { descendants, isAlive } from "./_descendants.ts";
import { startReward, startTrainer, train } from "./_training.ts";

const isLinux = Deno.build.os === "linux";

Deno.test("The processes of killed services end too", { ignore: !isLinux }, async () => {
  const runs = await Deno.makeTempDir({ prefix: "drtune-fault-" });
  const server = startReward();
  const trainer = startTrainer(runs);
  try {
    const [{ address: reward }, { address }] = await Promise.all([server.ready, trainer.ready]);
    const abort = new AbortController();
    const { signal } = abort;
    const training = train(address, { id: "run", reward, signal }).catch(() => {});
    let engines: number[] = [];
    while (engines.length === 0) engines = await descendants(trainer.pid);
    const workers = await descendants(server.pid);
    assert.equal(workers.length, 1);
    await Promise.all([server.end(), trainer.end()]);
    abort.abort();
    await training;
    // They end when they have done what they are at.
    const late = AbortSignal.timeout(60_000);
    for (const pid of [...engines, ...workers]) {
      while (await isAlive(pid)) {
        assert.ok(!late.aborted, `Process ${pid} outlives its service`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  } finally {
    await Promise.all([server.end(), trainer.end()]);
    await Deno.remove(runs, { recursive: true });
  }
});
