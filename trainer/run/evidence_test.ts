import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { studentWithin } from "../../base/mod.ts";
import { Random } from "../../models/random/mod.ts";
import { byPrompt, evidenceOf, evidenceOfFall } from "./evidence.ts";
import type { PanelMeasurement } from "./panel.ts";

const { evidence: cases } = z.object({
  evidence: z.array(z.object({ differences: z.array(z.number()), value: z.number() })),
}).parse(
  JSON.parse(readFileSync(new URL("../testdata/counter_measures.json", import.meta.url), "utf8")),
);

Deno.test("the evidence of a fall is its integral over effects and deviations", () => {
  for (const { differences, value } of cases) {
    const found = evidenceOfFall(differences);
    assert.ok(Math.abs(found - value) < 1e-4 * value, `${found}, not ${value}`);
    // It has no unit.
    const scaled = evidenceOfFall(differences.map((d) => 1000 * d));
    assert.ok(Math.abs(scaled - found) < 1e-9 * found);
  }
  assert.equal(evidenceOfFall([0, 0, 0, 0]), 1);
});

/** The probability that Student's t is below this. */
const below = (t: number, freedom: number) => {
  const within = studentWithin(Math.abs(t), freedom) / 2;
  return t < 0 ? 0.5 - within : 0.5 + within;
};

Deno.test("evidence is 1 on average where nothing falls", () => {
  for (const n of [4, 8, 16]) {
    // Differences of deviation 1, to be moved to every value of their t-statistic.
    const plain = Array.from(
      { length: n },
      (_, i) => (i % 2 === 0 ? 1 : -1) * Math.sqrt(1 - 1 / n),
    );
    let mean = 0;
    for (let u = -6; u < 6; u += 0.001) {
      const [t, next, middle] = [u, u + 0.001, u + 0.0005].map(Math.sinh);
      const shift = (middle ?? NaN) / Math.sqrt(n);
      mean += evidenceOfFall(plain.map((v) => v + shift)) *
        (below(next ?? NaN, n - 1) - below(t ?? NaN, n - 1));
    }
    assert.ok(Math.abs(mean - 1) < 0.01, `${mean} for ${n}`);
  }
});

/** Measurements of one judge at `prompts` prompts of two images each. */
function series(
  run: number,
  { looks, prompts, fallFrom = Infinity }: {
    readonly looks: number;
    readonly prompts: number;
    readonly fallFrom?: number;
  },
): PanelMeasurement[] {
  const levels = Array.from({ length: prompts }, () => 0);
  return Array.from({ length: looks }, (_, t) => {
    const steps = new Random(5, run * 100 + t).normals(prompts);
    const judge = levels.flatMap((level, p) => {
      // The scores of a prompt wander from look to look.
      levels[p] = level + (steps[p] ?? 0) - (t > fallFrom ? 0.8 : 0);
      return [levels[p] ?? 0, levels[p] ?? 0];
    });
    return { step: 5 * t, trained: [], heldOut: { judge }, diversity: 1 };
  });
}

Deno.test("judges that wander end fewer runs than the stated rate, and one that falls is found", () => {
  const ended = (options: Parameters<typeof series>[1]) => {
    let count = 0;
    for (let run = 0; run < 200; run++) {
      const all = series(run, options);
      const last = evidenceOf(all, { imagesPerPrompt: 2 });
      if (last !== undefined && last.value >= 20) count++;
    }
    return count / 200;
  };
  assert.ok(ended({ looks: 12, prompts: 8 }) <= 0.05);
  assert.ok(ended({ looks: 12, prompts: 16, fallFrom: 4 }) > 0.9);
});

Deno.test("evidence only grows, names the judge and since when, and begins with the second measurement", () => {
  const all = series(1, { looks: 10, prompts: 8, fallFrom: 3 });
  const values = all.map((_, t) => evidenceOf(all.slice(0, t + 1), { imagesPerPrompt: 2 })?.value);
  assert.equal(values[0], undefined);
  const known = values.slice(1).map((v) => v ?? NaN);
  assert.ok(known.every((v, i) => v > (known[i - 1] ?? 0)));
  const { most } = evidenceOf(all, { imagesPerPrompt: 2 }) ?? assert.fail();
  assert.equal(most.judge, "judge");
  assert.ok(most.since < 30 && most.fall > 1, JSON.stringify(most));
  assert.deepEqual(byPrompt([1, 3, 5, 7], 2), [2, 6]);
});
