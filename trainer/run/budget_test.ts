import assert from "node:assert/strict";
import { computeOf, isSpent } from "./budget.ts";
import { RunStore } from "./run_store.ts";
import { fakeModel } from "../testing/fake_networks.ts";
import { FakeReward } from "../testing/fake_reward.ts";
import { CONFIG, inFolder, until, world } from "../testing/run_world.ts";

Deno.test("a budget is spent at the iteration nearest to it", () => {
  assert.equal(isSpent([], 1), false);
  for (
    const [each, budget, iterations] of [[1, 4, 4], [3, 10, 3], [3, 11, 4], [10, 12, 1], [10, 1, 1]]
  ) {
    const spent: number[] = [];
    while (!isSpent(spent, budget ?? NaN)) spent.push(each ?? NaN);
    assert.equal(spent.length, iterations, `${each} s each, ${budget} s`);
  }
});

Deno.test("compute is CPU seconds, or on a GPU those of the clock without waiting for rewards", () => {
  const step = { cpuSeconds: 5, seconds: { total: 4, reward: 1.5, sample: 2 } };
  assert.equal(computeOf(step, "cpu"), 5);
  assert.equal(computeOf(step, "gpu"), 2.5);
  const shards = {
    workers: ["a", "b"],
    seconds: { total: 2, reward: 9, sample: 3, gradient: 4.5 },
  };
  assert.equal(computeOf(shards, "gpu"), 7.5, "of workers together");
  assert.equal(computeOf({ seconds: {} }, "cpu"), undefined);
  assert.equal(computeOf({ seconds: {} }, "gpu"), undefined);
});

Deno.test("a run stops once its budget is spent, with a checkpoint, also when it was interrupted", async () => {
  await inFolder(async (root) => {
    // Each look at the clock of the processes is half a second later.
    const slow = () => {
      let clock = 0;
      return { ...fakeModel(), cpuSeconds: () => Promise.resolve(clock += 0.5) };
    };
    const rewards = world({ dark: new FakeReward(0.2) });
    const store = await RunStore.open(root, {
      ...rewards,
      openModel: () => Promise.resolve(slow()),
    });
    const budget = { seconds: 2.2 };
    const { run } = await store.start("run", { ...CONFIG, iterations: 1000, budget });
    await until(run);
    assert.deepEqual([run.state, run.step, run.checkpoints], ["stopped", 4, [4]]);
    assert.match(
      run.log.lastState?.reason ?? "",
      /^Its budget of 2.2 cpu seconds is spent: 2.0 s$/,
    );
    // There is nothing left to spend.
    await store.resume("run");
    await until(run);
    assert.deepEqual([run.state, run.step], ["stopped", 4]);
    const { run: parts } = await store.start("parts", { ...CONFIG, iterations: 3, budget });
    await until(parts);
    assert.deepEqual([parts.state, parts.step], ["finished", 3]);
    await store.resume("parts", 1000);
    await until(parts);
    assert.deepEqual([parts.state, parts.step], ["stopped", 4]);
    await store.close();
  });
});
