import assert from "node:assert/strict";
import { philox, Random, type Words } from "./mod.ts";

// The known answers of Random123 1.14, tests/kat_vectors, "philox4x32 10".
const KNOWN: readonly { counter: Words; key: readonly [number, number]; answer: Words }[] = [
  {
    counter: [0, 0, 0, 0],
    key: [0, 0],
    answer: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  },
  {
    counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    key: [0xffffffff, 0xffffffff],
    answer: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    key: [0xa4093822, 0x299f31d0],
    answer: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  },
];

Deno.test("philox gives the published answers", () => {
  for (const { counter, key, answer } of KNOWN) assert.deepEqual(philox(counter, key), answer);
});

Deno.test("a Random reads the blocks of its seed and stream in order", () => {
  const random = new Random(2 ** 32 * 5 + 7, 2 ** 32 * 3 + 2);
  const words = Array.from({ length: 8 }, () => random.uint32());
  assert.deepEqual(words, [...philox([0, 0, 2, 3], [7, 5]), ...philox([1, 0, 2, 3], [7, 5])]);
});

Deno.test("normal numbers have the moments of a standard normal distribution", () => {
  const n = 1 << 16;
  const values = new Random(1).normals(n);
  const moment = (p: number) => values.reduce((sum, v) => sum + v ** p, 0) / n;
  // Five standard errors of each moment: √(E[x^2p] - E[x^p]²) / √n.
  for (const [p, expected, deviation] of [[1, 0, 1], [2, 1, 2], [3, 0, 15], [4, 3, 96]] as const) {
    const bound = 5 * Math.sqrt(deviation / n);
    assert.ok(Math.abs(moment(p) - expected) < bound, `moment ${p} is ${moment(p)}`);
  }
});

Deno.test("integer draws every value of its range about equally often", () => {
  const random = new Random(3);
  const counts = [0, 0, 0];
  for (let i = 0; i < 30000; i++) {
    const v = random.integer(-1, 1);
    counts[v + 1] = (counts[v + 1] ?? 0) + 1;
  }
  for (const c of counts) assert.ok(Math.abs(c - 10000) < 5 * Math.sqrt(30000 * 2 / 9), `${c}`);
});

Deno.test("seeds outside the range and empty ranges are refused", () => {
  assert.throws(() => new Random(-1), /Seed is -1, expected a whole number/);
  assert.throws(() => new Random(0, 0.5), /Stream is 0.5/);
  assert.throws(() => new Random(0).integer(2, 1), /from 2 to 1/);
});
