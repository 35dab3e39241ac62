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
