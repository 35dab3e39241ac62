import assert from "node:assert/strict";
import { permutation, randomStream } from "./random.ts";

Deno.test("streams of different seed, purpose or index differ, equal ones agree", () => {
  const first = (...args: Parameters<typeof randomStream>) =>
    randomStream(...args).normals(8).join();
  const all = [
    first(1, "noise"),
    first(2, "noise"),
    first(1, "latents"),
    first(1, "noise", { iteration: 1 }),
    first(1, "noise", { image: 1 }),
    first(1, "noise", { step: 1 }),
    first(2 ** 32 - 1, "noise", { iteration: 2 ** 21 - 1, image: 2 ** 16 - 1, step: 2 ** 16 - 1 }),
  ];
  assert.equal(new Set(all).size, all.length);
  assert.equal(first(1, "noise", { step: 1 }), all[5]);
});

Deno.test("a permutation holds every number once", () => {
  const p = permutation(100, randomStream(5, "prompts"));
  assert.deepEqual([...p].sort((a, b) => a - b), Array.from({ length: 100 }, (_, i) => i));
  assert.notDeepEqual([...p].slice(0, 5), [0, 1, 2, 3, 4]);
});

Deno.test("an index beyond its limit is refused", () => {
  assert.throws(() => randomStream(-1, "noise"), /Random seed is -1, expected a whole number/);
  assert.throws(() => randomStream(0, "noise", { step: 0.5 }), /Random step is 0\.5/);
  assert.throws(() => randomStream(0, "noise", { image: 65536 }), /Random image is 65536/);
});
