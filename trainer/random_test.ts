import assert from "node:assert/strict";
import { philox, RandomStream } from "./random.ts";

Deno.test("philox gives the known answers of Random123", () => {
  // kat_vectors of the Random123 distribution, philox4x32 with 10 rounds.
  const cases: [number[], [number, number], string][] = [
    [[0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      "d16cfe09 94fdcceb 5001e420 24126ea1",
    ],
  ];
  for (const [counter, key, expected] of cases) {
    const hex = [...philox(counter, key)].map((v) => v.toString(16).padStart(8, "0")).join(" ");
    assert.equal(hex, expected);
  }
});

Deno.test("streams of different seed, purpose or index differ, equal ones agree", () => {
  const first = (...args: ConstructorParameters<typeof RandomStream>) =>
    [...new RandomStream(...args).normals(8)].join();
  const all = [
    first(1, "noise"),
    first(2, "noise"),
    first(1, "latents"),
    first(1, "noise", { iteration: 1 }),
    first(1, "noise", { image: 1 }),
    first(1, "noise", { step: 1 }),
  ];
  assert.equal(new Set(all).size, all.length);
  assert.equal(first(1, "noise", { step: 1 }), all.at(-1));
});

Deno.test("normals have the moments of a standard normal", () => {
  const n = 40_000;
  const x = new RandomStream(3, "noise").normals(n);
  const moment = (k: number) => x.reduce((sum, v) => sum + v ** k, 0) / n;
  // Four standard errors of each moment: sqrt(var(x^k) / n) with var 1, 2, 15, 96.
  for (const [k, expected, variance] of [[1, 0, 1], [2, 1, 2], [3, 0, 15], [4, 3, 96]] as const) {
    assert.ok(Math.abs(moment(k) - expected) < 4 * Math.sqrt(variance / n), `moment ${k}`);
  }
});

Deno.test("integers cover their range evenly", () => {
  const stream = new RandomStream(4, "plan");
  const counts = new Array<number>(7).fill(0);
  for (let i = 0; i < 7000; i++) {
    const v = stream.integer(-3, 3);
    counts[v + 3] = (counts[v + 3] ?? 0) + 1;
  }
  const chiSquare = counts.reduce((sum, c) => sum + (c - 1000) ** 2 / 1000, 0);
  assert.ok(chiSquare < 22.5, `chi-square ${chiSquare} of 6 degrees of freedom, p < 0.001`);
  assert.throws(() => stream.integer(2, 1), /Random range 2\.\.1 is empty/);
});

Deno.test("a permutation holds every number once", () => {
  const p = new RandomStream(5, "prompts").permutation(100);
  assert.deepEqual([...p].sort((a, b) => a - b), Array.from({ length: 100 }, (_, i) => i));
  assert.notDeepEqual([...p].slice(0, 5), [0, 1, 2, 3, 4]);
});

Deno.test("a seed that is no 32-bit integer is refused", () => {
  assert.throws(() => new RandomStream(-1, "noise"), /Random seed is -1, expected an integer/);
  assert.throws(() => new RandomStream(0, "noise", { step: 0.5 }), /Random step is 0\.5/);
});
