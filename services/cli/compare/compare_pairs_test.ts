import assert from "node:assert/strict";
import { comparePairs } from "./compare_pairs.ts";

const pair = (prompt: string, category: string, [a, b]: readonly [number, number], seed = 0) => ({
  ...{ prompt, category, seed, a: { up: a, down: a }, b: { up: b, down: b } },
});

Deno.test("a side wins by a reward's direction; intervals are over prompts", () => {
  const pairs = [
    pair("a fox", "animals", [1, 2]),
    pair("a fox", "animals", [1, 4], 1),
    pair("a dog", "animals", [3, 3]),
    pair("a house", "places", [5, 4]),
  ];
  const found = comparePairs(pairs, (reward) => reward === "up");
  assert.deepEqual(
    found.map((
      { reward, category, pairs, prompts, wins },
    ) => [reward, category, pairs, prompts, wins]),
    [
      ["up", "animals", 3, 2, { a: 0, ties: 1, b: 2 }],
      ["up", "places", 1, 1, { a: 1, ties: 0, b: 0 }],
      ["up", "all", 4, 3, { a: 1, ties: 1, b: 2 }],
      ["down", "animals", 3, 2, { a: 2, ties: 1, b: 0 }],
      ["down", "places", 1, 1, { a: 0, ties: 0, b: 1 }],
      ["down", "all", 4, 3, { a: 2, ties: 1, b: 1 }],
    ],
  );
  const [, , all] = found;
  assert.ok(all);
  assert.deepEqual([all.a, all.b], [2.5, 3.25]);
  // Prompts' means: fox 2, dog 0, house -1. R: t.test(c(2, 0, -1)).
  const { mean, low, high } = all.difference;
  assert.ok(Math.abs(mean - 1 / 3) < 1e-12);
  assert.ok(Math.abs(high - mean - 4.302652729911275 * Math.sqrt(7 / 3 / 3)) < 1e-9);
  assert.ok(Math.abs(low + high - 2 * mean) < 1e-12);
  // Two of three pairs, and two prompts with a winner.
  assert.ok(Math.abs(all.winRate.share - 2 / 3) < 1e-12);
  assert.ok(all.winRate.low > 0.1 && all.winRate.high < 0.99);
});

Deno.test("a reward that says nothing of a prompt has no pair there", () => {
  const one = { prompt: "a", category: "all", seed: 0, a: { x: 1 }, b: { x: 2 } };
  const none = { prompt: "b", category: "all", seed: 0, a: {}, b: {} };
  const [found] = comparePairs([one, none], () => true);
  assert.deepEqual([found?.pairs, found?.b, found?.winRate.share], [1, 2, 1]);
});
