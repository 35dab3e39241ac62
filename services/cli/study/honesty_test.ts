import assert from "node:assert/strict";
import { frontierOf, honestyOf, hypervolumeOf } from "./honesty.ts";

const at = (trained: number, judged: number) => ({ compute: 0, trained, judged });

Deno.test("the hypervolume is the area that standings dominate", () => {
  // By hand: 1 x (1 + 2), then 1 x (0.5 + 2), then 2 x (-1 + 2).
  const standings = [at(0, 0), at(2, 0.5), at(1, 1), at(4, -1), at(0.5, 0.2), at(5, -3)];
  assert.deepEqual(frontierOf(standings).map(({ trained }) => trained), [1, 2, 4, 5]);
  assert.equal(hypervolumeOf(standings), 1 * 3 + 1 * 2.5 + 2 * 1);
  assert.equal(hypervolumeOf([at(0, 0), at(-1, 5)]), 0);
  assert.equal(hypervolumeOf([]), 0);
});

Deno.test("a run's panel says where it stood, and how long it was honest", () => {
  const point = (step: number, a: number, judge: number, alarm = "") => ({
    ...{ step, compute: 10 * step, diversity: 1, heldOut: ["judge"], alarm },
    rewards: { a, judge },
  });
  const options = {
    target: "a",
    isUp: (name: string) => name === "judge",
    deviations: { a: 0.5, judge: 2 },
  };
  const panel = [
    point(0, 3, 10),
    point(5, 2, 12),
    point(10, 1, 6, "worse"),
    point(15, 0, 4, "worse"),
  ];
  const found = honestyOf(panel, options) ?? assert.fail();
  assert.deepEqual(found.standings.map(({ trained, judged }) => [trained, judged]), [
    [0, 0],
    [2, 1],
    [4, -2],
    [6, -3],
  ]);
  assert.equal(found.honestFor, 100);
  assert.equal(found.hypervolume, 2 * 3);
  assert.equal(honestyOf(panel.slice(0, 2), options)?.honestFor, undefined);
  assert.equal(honestyOf([], options), undefined);
});
