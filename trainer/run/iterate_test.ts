import assert from "node:assert/strict";
import { float32 } from "../../autodiff/mod.ts";
import { initAdamW } from "../optim/mod.ts";
import type { RewardSource } from "../batch/mod.ts";
import type { Parameters as Tensors } from "../tensors.ts";
import { fakeModel } from "../testing/fake_networks.ts";
import { FakeReward } from "../testing/fake_reward.ts";
import { iterate } from "./_iterate.ts";
import { computeShard, parseRunConfig, RewardMixture } from "./mod.ts";

const CONFIG = {
  model: "fake",
  method: { name: "draft-t" },
  sampler: { steps: 4 },
  guidance: { scale: 2 },
  prompts: ["a fox", "books", "a cat", "an owl"],
  rewards: [{ name: "dark", endpoint: "dark" }],
};

async function run(
  fields: object,
  { gradients, wrap = (mixture) => mixture, order = (n) => [...Array(n).keys()] }: {
    readonly gradients?: Tensors;
    /** In which results arrive. */
    readonly order?: (count: number) => readonly number[];
    readonly wrap?: (mixture: RewardSource) => RewardSource;
  } = {},
) {
  const config = parseRunConfig({ ...CONFIG, ...fields });
  const opened = fakeModel();
  const parameters = gradients ?? opened.model.initialParameters(0);
  const denoiser = await opened.model.adapt(parameters);
  const [term] = config.rewards;
  assert.ok(term);
  const computed = {
    config,
    iteration: 1,
    denoiser: {
      ...denoiser,
      vjp: async (...args: Parameters<typeof denoiser.vjp>) => ({
        ...await denoiser.vjp(...args),
        ...(gradients && { parameters: gradients }),
      }),
    },
    reward: wrap(new RewardMixture([{ term, client: new FakeReward(0.2) }])),
  };
  return await iterate({
    at: { step: 0, parameters, optimizer: initAdamW(parameters) },
    config,
    compute: async (shards, take) => {
      const results = await Promise.all(
        shards.map((shard) => computeShard(opened, { ...computed, shard })),
      );
      for (const index of order(results.length)) {
        const result = results[index];
        assert.ok(result);
        take(index, result);
      }
    },
  });
}

Deno.test("accumulated batches are one batch, to float32 rounding", async () => {
  const whole = await run({ batch: { size: 4 } });
  const parts = await run({ batch: { size: 1, accumulation: 4 } });
  assert.deepEqual(parts.facts.prompts, whole.facts.prompts);
  assert.deepEqual(parts.facts.rewards, whole.facts.rewards);
  assert.ok(Math.abs(parts.facts.loss - whole.facts.loss) < 1e-9);
  assert.ok(Math.abs(parts.facts.gradNorm / whole.facts.gradNorm - 1) < 1e-6);
  assert.equal(parts.facts.plans.length, 4);
  for (const [name, { data }] of Object.entries(whole.next.optimizer.mean)) {
    data.forEach((v, i) => {
      const other = parts.next.optimizer.mean[name]?.data[i] ?? NaN;
      assert.ok(Math.abs(v - other) < 1e-6 * Math.abs(v), `${name} ${v} ${other}`);
    });
  }
});

Deno.test("the gradient is clipped and the learning rate warms up", async () => {
  const moved = async (optimizer: object) => {
    const { next, facts } = await run({ optimizer });
    const before = fakeModel().model.initialParameters(0);
    const square = Object.values(next.optimizer.mean).flatMap(({ data }) => [...data])
      .reduce((sum, m) => sum + m * m, 0);
    const step = (next.parameters.a?.data[0] ?? NaN) - (before.a?.data[0] ?? NaN);
    return { norm: Math.sqrt(square) / 0.1, gradNorm: facts.gradNorm, step };
  };
  const free = await moved({ learningRate: 0.1, maxGradNorm: 0 });
  assert.ok(Math.abs(free.norm / free.gradNorm - 1) < 1e-6);
  const clipped = await moved({ learningRate: 0.1, maxGradNorm: free.gradNorm / 2 });
  assert.ok(Math.abs(clipped.norm / (free.gradNorm / 2) - 1) < 1e-4);
  assert.equal(clipped.gradNorm, free.gradNorm);
  const warming = await moved({ learningRate: 0.1, maxGradNorm: 0, warmup: 10 });
  assert.ok(Math.abs(warming.step / free.step - 0.1) < 1e-5);
});

Deno.test("the order of the parameters, which a checkpoint does not keep, changes no bit", async () => {
  // The squares of b are lost one by one when added to that of a, and count when added up first.
  const [a, b] = [float32([1]), float32(new Float32Array(20).fill(1e-8))];
  const [ab, ba] = [await run({}, { gradients: { a, b } }), await run({}, { gradients: { b, a } })];
  assert.equal(ab.facts.gradNorm, ba.facts.gradNorm);
  assert.deepEqual(ab.next, ba.next);
});

Deno.test("under random shift rewards see windows at offsets that follow from the seed", async () => {
  const seen: string[] = [];
  const watched = (mixture: RewardSource): RewardSource => ({
    evaluate: (images, prompts) => {
      seen.push(`${images.shape}: ${[...images.data]}`);
      return mixture.evaluate(images, prompts);
    },
  });
  const shift = { batch: { size: 4 }, randomShift: 1 };
  const whole = await run({ batch: { size: 4 } });
  const first = await run(shift, { wrap: watched });
  assert.deepEqual(await run(shift, { wrap: watched }).then((r) => r.next), first.next);
  await run({ ...shift, seed: 1 }, { wrap: watched });
  assert.ok(seen.every((s) => s.startsWith("4,3,1,1: ")), seen.join());
  assert.equal(seen[0], seen[1]);
  assert.notEqual(seen[0], seen[2]);
  assert.notEqual(first.facts.gradNorm, whole.facts.gradNorm);
});

Deno.test("shards are one batch, to float32 rounding, and the same bits in whatever order they arrive", async () => {
  const fields = { batch: { size: 4, accumulation: 2 }, drift: { weight: 0 }, randomShift: 1 };
  const whole = await run(fields);
  // Three images and one: a shard's share of its batch counts.
  const parts = await run({ ...fields, shard: { images: 3 } });
  assert.deepEqual(parts.facts.rewards.dark?.perImage, whole.facts.rewards.dark?.perImage);
  assert.ok(Math.abs(parts.facts.loss - whole.facts.loss) < 1e-9);
  assert.ok(Math.abs(parts.facts.gradNorm / whole.facts.gradNorm - 1) < 1e-6);
  const { next } = await run({ ...fields, shard: { images: 3 } }, { order: () => [2, 1, 3, 0] });
  assert.deepEqual(next, parts.next);
  assert.deepEqual((await run({ ...fields, shard: { images: 4 } })).next, whole.next);
});
