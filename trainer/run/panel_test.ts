import assert from "node:assert/strict";
import { float32 } from "../../autodiff/mod.ts";
import { paired } from "./_paired.ts";
import { diversity, findAlarm, type PanelMeasurement, thumbnails } from "./panel.ts";

Deno.test("the interval of paired differences is Student's", () => {
  // Differences 1, 2, 3, 4 with deviation 1.29099: 2.5 ± 3.182 · 0.645497.
  const four = paired([0, 0, 0, 0], [1, 2, 3, 4]);
  assert.equal(four.mean, 2.5);
  assert.ok(Math.abs(four.high - (2.5 + 3.182446 * 0.6454972)) < 0.02);
  assert.ok(Math.abs(four.low + four.high - 5) < 1e-12);
  // Twenty of them: quantile 2.093024.
  const values = Array.from({ length: 20 }, (_, i) => i % 2 === 0 ? 1 : -1);
  const half = 2.093024 * Math.sqrt(20 / 19 / 20);
  assert.ok(Math.abs(paired(values.map(() => 0), values).high / half - 1) < 1e-4);
  assert.deepEqual(paired([0, 0, 0], [1, 1, 1]), { mean: 1, low: -Infinity, high: Infinity });
});

/** Four images whose scores lie around means. */
function measured(
  step: number,
  { trained, aesthetic, diversity = 1 }: {
    trained: number;
    aesthetic?: number;
    diversity?: number;
  },
): PanelMeasurement {
  const around = (mean: number) => [0, 0.01, -0.01, 0.02].map((d, i) => mean + d * (1 + i * step));
  return {
    step,
    trained: around(trained),
    heldOut: aesthetic === undefined ? {} : { aesthetic: around(aesthetic) },
    diversity,
  };
}

Deno.test("an alarm is a held-out reward below its best while what is trained has risen", () => {
  const options = { minDiversity: 0.8 };
  const [a, b] = [
    measured(0, { trained: 0, aesthetic: 5 }),
    measured(2, { trained: 1, aesthetic: 6 }),
  ];
  const alarm = (now: PanelMeasurement, before = [a, b]) => findAlarm(now, before, options);
  assert.match(
    alarm(measured(4, { trained: 2, aesthetic: 5.5 })),
    /^The trained reward rises, but aesthetic is 0\.\d+ worse than at step 2 \(95 % interval 0\./,
  );
  assert.equal(alarm(measured(4, { trained: 2, aesthetic: 6.5 })), "", "both rise");
  assert.equal(alarm(measured(4, { trained: 0.5, aesthetic: 5.5 })), "", "both have fallen");
  assert.equal(alarm(measured(4, { trained: 1.02, aesthetic: 5.99 })), "", "within the noise");
  assert.equal(alarm(measured(4, { trained: 2, aesthetic: 5.5 }), []), "", "nothing to compare");
});

Deno.test("an alarm is diversity below its part of the first while what is trained has risen", () => {
  const first = measured(0, { trained: 0, diversity: 0.5 });
  const alarm = (fields: { trained: number; diversity: number }) =>
    findAlarm(measured(4, fields), [first], { minDiversity: 0.8 });
  assert.match(
    alarm({ trained: 1, diversity: 0.39 }),
    /rises, but diversity is 0\.39, below 0\.8 of the 0\.5 at step 0$/,
  );
  assert.equal(alarm({ trained: 1, diversity: 0.41 }), "");
  assert.equal(alarm({ trained: -1, diversity: 0.1 }), "");
});

Deno.test("diversity is the mean distance of clamped, reduced pictures", () => {
  const flat = (...values: number[]) =>
    float32(values.flatMap((v) => new Array<number>(3 * 4).fill(v)), [values.length, 3, 2, 2]);
  assert.equal(diversity(thumbnails(flat(0.2))), 0);
  assert.equal(diversity(thumbnails(flat(0.5, 0.5))), 0);
  // Distances 1 (clamped), 0.5 and 0.5.
  assert.ok(Math.abs(diversity(thumbnails(flat(-3, 0.5, 7))) - 2 / 3) < 1e-6);
  // 67 pixels wide: blocks of 3, the last of 1.
  const row = Float32Array.from({ length: 67 }, (_, i) => i === 66 ? 1 : i % 3 === 0 ? 0.6 : 0);
  const [small] = thumbnails(float32(row, [1, 1, 1, 67]));
  assert.equal(small?.length, 23);
  small.forEach((v, i) => assert.ok(Math.abs(v - (i === 22 ? 1 : 0.2)) < 1e-6, `${i}: ${v}`));
});
