import assert from "node:assert/strict";
import {
  bestShard,
  type ClusterCosts,
  type ClusterShape,
  shardSizes,
  simulateCluster,
} from "./mod.ts";

/** Nothing costs anything. */
const FREE: ClusterCosts = {
  shard: { fixed: 0, perImage: 0, beforeReward: 0.5, spread: 0 },
  adapt: 0,
  reward: { replicas: Infinity, perCall: 0, perImage: 0 },
  adapterBytes: 0,
  network: { roundTrip: 0, trainerBytesPerSecond: 1e9, workerBytesPerSecond: 1e9 },
  trainer: {
    ...{ perJob: 0, perResult: 0, perIteration: 0 },
    perByte: { sent: 0, taken: 0, updated: 0 },
  },
};
const SHAPE: ClusterShape = { workers: 1, batchSize: 12, accumulation: 1, shardImages: 1 };

function played(costs: Partial<ClusterCosts>, shape: Partial<ClusterShape> = {}, iterations = 5) {
  return simulateCluster({ ...FREE, ...costs }, { ...SHAPE, ...shape }, { iterations, seed: 3 });
}

/** Seconds of an iteration, to a millionth: times are sums of the same few numbers. */
function assertSeconds(
  expected: number,
  costs: Partial<ClusterCosts>,
  shape: Partial<ClusterShape> = {},
): void {
  const { secondsPerIteration: found } = played(costs, shape);
  assert.ok(Math.abs(found - expected) <= 1e-6 * expected, `${found}, expected ${expected}`);
}

Deno.test("Where one thing costs something, an iteration takes what a closed form says", () => {
  const shard = { ...FREE.shard, fixed: 1, perImage: 2 };
  // Jobs in waves: as many as there are workers at a time.
  for (const workers of [1, 2, 5, 12, 40]) {
    assertSeconds(3 * Math.ceil(12 / workers), { shard }, { workers });
  }
  // Shards of five, five and two images; two batches one behind the other in the queue.
  assertSeconds(11 + 11 + 5, { shard }, { shardImages: 5 });
  assertSeconds(11, { shard }, { shardImages: 5, workers: 3 });
  assertSeconds(2 * 36, { shard }, { accumulation: 2 });
  // A LoRA for every worker over the trainer's line, and a gradient back for every shard.
  const network = { roundTrip: 0, trainerBytesPerSecond: 100, workerBytesPerSecond: 1e9 };
  assertSeconds(4 * 5 + 12 * 5, { adapterBytes: 500, network }, { workers: 4 });
  // Each worker's own line is the narrow one: LoRAs side by side, then three gradients after another.
  const narrow = { roundTrip: 0, trainerBytesPerSecond: 1e9, workerBytesPerSecond: 100 };
  assertSeconds(5 + 3 * 5, { adapterBytes: 500, network: narrow }, { workers: 4 });
  // Rewards: one server after the other's image; as many at a time as replicas.
  const reward = (replicas: number) => ({ reward: { replicas, perCall: 1, perImage: 2 } });
  assertSeconds(36, reward(1), { workers: 12 });
  assertSeconds(12, reward(3), { workers: 12 });
  assertSeconds(3, reward(Infinity), { workers: 12 });
  // A call of twelve images: four on each of three replicas.
  assertSeconds(1 + 4 * 2, reward(3), { shardImages: 12 });
  // The trainer takes results one after the other.
  const trainer = { ...FREE.trainer, perJob: 0.5, perResult: 1, perIteration: 3 };
  assertSeconds(1.5 + 0.5 * 12 + 12 + 1.5, { trainer }, { workers: 12 });
  // So it is with what it does for each byte: four LoRAs sent, twelve gradients taken, one update.
  const perByte = { sent: 0.1, taken: 0.2, updated: 0.3 };
  const quick = { roundTrip: 0, trainerBytesPerSecond: 1e15, workerBytesPerSecond: 1e15 };
  assertSeconds(
    10 * (4 * 0.1 + 12 * 0.2 + 0.3),
    { adapterBytes: 10, network: quick, trainer: { ...FREE.trainer, perByte } },
    { workers: 4 },
  );
  // Once for each worker and iteration, however many jobs it does.
  assertSeconds(7 + 3 * 3, { shard, adapt: 7 }, { workers: 4 });
});

Deno.test("A result is fetched while its worker computes, and not more than one waits", () => {
  const shard = { ...FREE.shard, perImage: 4 };
  const network = { roundTrip: 0, trainerBytesPerSecond: 100, workerBytesPerSecond: 100 };
  // The LoRA, twelve shards, and the last gradient; the others go with the shards after them.
  assertSeconds(3 + 12 * 4 + 3, { shard, adapterBytes: 300, network });
  // Where the line is slower than the worker, the line sets the pace.
  assertSeconds(5 + 4 + 12 * 5, { shard, adapterBytes: 500, network });
});

Deno.test("Deaths cost the jobs they fall into, about as many as their rate says", () => {
  const shard = { ...FREE.shard, perImage: 10 };
  const failures = { meanSeconds: 400, silence: 10, restart: 60 };
  const shape = { workers: 8, batchSize: 64 };
  const { lostJobs, secondsPerIteration } = played({ shard, failures }, shape, 200);
  // 64 jobs of 10 s are 640 s of eight workers, who are there for 400 of 460 s and die once in 400 of them.
  assert.ok(Math.abs(lostJobs - 640 / 400) < 0.25, `${lostJobs}`);
  const sound = 640 / 8;
  const least = sound * (1 + 60 / 400);
  assert.ok(
    secondsPerIteration > least && secondsPerIteration < least + 30,
    `${secondsPerIteration}`,
  );
});

Deno.test("Unequal times cost the wait for the last one; the same seed repeats them", () => {
  const spread = (spread: number) => ({ shard: { ...FREE.shard, perImage: 1, spread } });
  const many = (costs: Partial<ClusterCosts>) =>
    played(costs, { workers: 12 }, 400).secondsPerIteration;
  const found = many(spread(0.2));
  // The mean of the largest of twelve normal numbers is 1.63 standard deviations above theirs; lognormal ones are a
  // little further out.
  assert.ok(found > 1 + 1.55 * 0.2 && found < 1 + 1.95 * 0.2, `${found}`);
  assert.equal(many(spread(0.2)), found);
});

Deno.test("Each part is as busy as what it did says, and the best shard weighs what a job costs", () => {
  const shard = { ...FREE.shard, perImage: 2 };
  const { busy } = played({
    shard,
    reward: { replicas: 4, perCall: 0, perImage: 1 },
  }, { workers: 4 });
  assert.ok(Math.abs(busy.workers - 1) < 1e-9 && Math.abs(busy.rewards - 1 / 3) < 1e-9);
  assert.deepEqual(shardSizes(12), [1, 2, 3, 4, 6, 12]);
  const best = (fixed: number, workers: number) =>
    bestShard({ ...FREE, shard: { ...FREE.shard, fixed, perImage: 1 } }, {
      ...{ workers, batchSize: 12, accumulation: 1 },
    });
  // A job costs as much as ten images: as few jobs as there are workers.
  assert.equal(best(10, 1).shape.shardImages, 12);
  assert.equal(best(10, 4).shape.shardImages, 3);
  // Jobs are free: five workers have no less than three images each.
  const { shape, secondsPerIteration, efficiency } = best(0, 5);
  assert.deepEqual([shape.shardImages, secondsPerIteration], [3, 3]);
  assert.ok(Math.abs(efficiency - 12 / 15) < 1e-9);
});
