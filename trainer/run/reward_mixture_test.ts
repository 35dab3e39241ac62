import assert from "node:assert/strict";
import { float32 } from "../../autodiff/mod.ts";
import type { Float32Tensor } from "../tensors.ts";
import { type RewardAnswer, type RewardClient, RewardMixture } from "./mod.ts";

const images = float32(Float32Array.from({ length: 24 }, (_, i) => i / 10), [2, 3, 2, 2]);
const prompts = ["a", "b"];

function client(
  direction: RewardClient["direction"],
  answer: (gradient: boolean) => RewardAnswer | Promise<RewardAnswer>,
): RewardClient {
  return {
    direction,
    digest: direction,
    score: async (_images, _prompts, { gradient }) => await answer(gradient),
    close: () => Promise.resolve(),
  };
}
const term = (name: string, weight = 1) => ({
  name,
  endpoint: "",
  reward: "",
  weight,
  expectedDigest: "",
});
const filled = (value: number): Float32Tensor =>
  float32(new Float32Array(24).fill(value), images.shape);

Deno.test("the loss is minus the weighted sum of what is maximised, plus what is minimised", async () => {
  const up = client("maximise", () => ({
    scores: Float32Array.of(1, 3),
    gradient: filled(0.5),
  }));
  const down = client("minimise", () => ({
    scores: Float32Array.of(10, 20),
    gradient: filled(2),
  }));
  const watched = client("maximise", (gradient) => {
    assert.equal(gradient, false, "a term of weight 0 is asked for no gradient");
    return { scores: Float32Array.of(7, 7) };
  });
  const mixture = new RewardMixture([
    { term: term("up", 2), client: up },
    { term: term("down", 0.5), client: down },
    { term: term("watched", 0), client: watched },
  ]);
  const { loss, gradient, rewards } = await mixture.evaluate(images, prompts);
  assert.equal(loss, (-2 * (1 + 3) + 0.5 * (10 + 20)) / 2);
  assert.ok(gradient.data.every((g) => g === (-2 * 0.5 + 0.5 * 2) / 2));
  assert.deepEqual(rewards, {
    up: { perImage: [1, 3], digest: "maximise" },
    down: { perImage: [10, 20], digest: "minimise" },
    watched: { perImage: [7, 7], digest: "maximise" },
  });
});

Deno.test("the same reward at two prompts is two terms, and each image's gradient has its own factor", async () => {
  const asked: string[][] = [];
  const reader: RewardClient = {
    ...client("maximise", () => ({ scores: Float32Array.of(1, 2) })),
    score: (_images, prompts) => {
      asked.push([...prompts]);
      return Promise.resolve({
        // The first image suits the sharp text, the second the blurred one.
        scores: prompts[0]?.startsWith("sharp") ? Float32Array.of(4, 1) : Float32Array.of(2, 3),
        gradient: filled(prompts[0]?.startsWith("sharp") ? 1 : 10),
      });
    },
  };
  const terms = [
    { term: { ...term("sharp", 1), prompt: "sharp, {prompt}" }, client: reader },
    { term: { ...term("blurred", -0.5), prompt: "blurred, {prompt}" }, client: reader },
  ];
  const relative = await new RewardMixture(terms).evaluate(images, prompts);
  assert.deepEqual(asked, [["sharp, a", "sharp, b"], ["blurred, a", "blurred, b"]]);
  assert.equal(relative.loss, -(4 + 1 - 0.5 * (2 + 3)) / 2);
  assert.ok(relative.gradient.data.every((g) => g === -(1 - 5) / 2));
  const best = terms.map(({ term, client }) => ({ term: { ...term, weight: 1 }, client }));
  const worst = await new RewardMixture(best, { combine: "min" }).evaluate(images, prompts);
  assert.equal(worst.loss, -(2 + 1) / 2);
  assert.deepEqual(
    [...worst.gradient.data],
    [...new Array<number>(12).fill(-5), ...new Array<number>(12).fill(-0.5)],
  );
});

Deno.test("rewards are asked concurrently, and scores without gradient", async () => {
  let waiting = 0;
  const all = Promise.withResolvers<void>();
  const one = client("maximise", async (gradient) => {
    assert.equal(gradient, false);
    if (++waiting === 2) all.resolve();
    await all.promise;
    return { scores: Float32Array.of(1, 2) };
  });
  const mixture = new RewardMixture([{ term: term("a"), client: one }, {
    term: term("b"),
    client: one,
  }]);
  assert.deepEqual((await mixture.score(images, prompts)).b?.perImage, [1, 2]);
});

Deno.test("an answer that does not fit is refused, naming the reward", async () => {
  const refused = async (answer: RewardAnswer, message: RegExp) => {
    const mixture = new RewardMixture([{
      term: term("odd"),
      client: client("maximise", () => answer),
    }]);
    await assert.rejects(mixture.evaluate(images, prompts), message);
  };
  const scores = Float32Array.of(1, 2);
  await refused({ scores: scores.slice(1) }, /Reward odd answered 1 scores for 2 images/);
  await refused(
    { scores },
    /Reward odd answered a gradient of shape \[none\], expected \[2,3,2,2\]/,
  );
  await refused({ scores, gradient: float32([1]) }, /gradient of shape \[1\]/);
  await refused({ scores, gradient: filled(Infinity) }, /'gradient of reward odd' holds Infinity/);
  await refused({ scores: Float32Array.of(1, NaN) }, /'scores of reward odd' holds NaN/);
});
