import assert from "node:assert/strict";
import { parseRunConfig, type RunConfig, type RunPlan } from "../../../trainer/mod.ts";
import { UsageError } from "../command.ts";
import { clusterPlans, clusterTable } from "./cluster_plan.ts";

const CONFIG = parseRunConfig({
  model: "m",
  prompts: ["a"],
  rewards: [{ name: "r", endpoint: "r:1" }],
  batch: { size: 8 },
});

/** A step of 2 s and 10 s for each image, 3 of 4 parts of it before the reward. */
function planRun({ batch: { size } }: RunConfig): RunPlan {
  const seconds = 2 + 10 * size;
  const phase = { runs: 1, pieces: 1, bytes: 0, flops: 0 };
  return {
    phases: [
      { ...phase, name: "sampling", seconds: 0.75 * seconds },
      { ...phase, name: "U-Net gradient", seconds: 0.25 * seconds },
    ],
    bytes: 0,
    adapterBytes: 1e6,
    secondsPerIteration: seconds,
  };
}

Deno.test("A plan is for 1, 2, 4, … workers, with shards that fit them, and what is asked of rewards counted", () => {
  const plans = clusterPlans(CONFIG, {
    ...{ workers: 6, shard: undefined, planRun },
    reward: { perImage: 0, replicas: 1 },
  });
  assert.deepEqual(plans.map(({ shape }) => [shape.workers, shape.shardImages]), [
    ...[[1, 8], [2, 4], [4, 2], [6, 2]],
  ]);
  // Lengths of shards spread by 5 %: one that is alone has its mean, the last of several is later.
  const [one, two, four] = plans.map(({ secondsPerIteration }) => secondsPerIteration);
  assert.ok(Math.abs((one ?? 0) - 82) < 0.08 * 82, `${one}`);
  assert.ok((two ?? 0) > 0.95 * 42 && (two ?? 0) < 1.15 * 42, `${two}`);
  assert.ok((four ?? 0) > 0.95 * 22 && (four ?? 0) < 1.15 * 22, `${four}`);

  // A reward of 20 s for an image, one after the other on one server: 160 s, of however many workers.
  const [, bound] = clusterPlans(CONFIG, {
    ...{ workers: 8, shard: 1, planRun },
    reward: { perImage: 20, replicas: 1 },
  }).slice(-2);
  assert.ok(bound !== undefined && bound.bound === "rewards");
  assert.ok(Math.abs(bound.secondsPerIteration - 170) < 10, `${bound.secondsPerIteration}`);
  assert.match(clusterTable([bound]), /\n +8 +1 +2 min 5\d s .* rewards$/);
});

Deno.test("A shard larger than its batch is refused", () => {
  const reward = { perImage: 0, replicas: 1 };
  assert.throws(
    () => clusterPlans(CONFIG, { workers: 2, shard: 9, reward, planRun }),
    (error) =>
      error instanceof UsageError &&
      error.message === "Option --shard is 9, expected at most the batch, 8",
  );
});
