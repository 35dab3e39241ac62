import assert from "node:assert/strict";
import { randomStream } from "../random.ts";
import {
  METHOD_NAMES,
  type MethodOptions,
  METHODS,
  type Plan,
  plan,
  resolveMethod,
} from "./mod.ts";

function draws(options: MethodOptions, T: number, count = 400): Plan[] {
  const config = resolveMethod(options, T);
  return Array.from(
    { length: count },
    (_, iteration) => plan(config, { T, random: randomStream(1, "plan", { iteration }) }),
  );
}
const range = (values: number[]) => [Math.min(...values), Math.max(...values)];

Deno.test("DRTune spreads K steps from a start that keeps them within 1..T", () => {
  const plans = draws({ name: "drtune", k: 5, m: 20 }, 50);
  for (const { trainSteps, inputStopGradient, redraws } of plans) {
    const [start = 0] = trainSteps;
    assert.deepEqual(trainSteps, [0, 10, 20, 30, 40].map((d) => start + d));
    assert.ok(inputStopGradient);
    assert.equal(redraws, 0);
  }
  assert.deepEqual(range(plans.map((p) => p.trainSteps[0] ?? 0)), [1, 10]);
  assert.deepEqual(range(plans.map((p) => p.tMin)), [1, 20]);
  // formulas.md: 4.05 of the 5 steps are reached on average.
  const reached = draws({ name: "drtune", k: 5, m: 20 }, 50, 4000)
    .map((p) => p.trainSteps.filter((t) => t >= p.tMin).length);
  assert.ok(Math.abs(reached.reduce((a, b) => a + b) / 4000 - 4.05) < 0.05);
  // The paper's SDXL setting: 25 steps, K = 3, start in 1..9.
  const xl = draws({ name: "drtune", k: 3, earlyStop: false }, 25);
  assert.deepEqual(range(xl.map((p) => p.trainSteps[0] ?? 0)), [1, 9]);
  assert.ok(xl.every((p) => p.tMin === 0));
});

Deno.test("the other methods train what their papers say", () => {
  for (const { trainSteps, tMin } of draws({ name: "refl", m: 10 }, 50)) {
    assert.deepEqual(trainSteps, [tMin]);
    assert.ok(tMin >= 1 && tMin <= 10);
  }
  const fixed = (options: MethodOptions) => draws(options, 6, 1)[0];
  const none = { tMin: 0, inputStopGradient: false, redraws: 0 };
  assert.deepEqual(fixed({ name: "draft-k", k: 3 }), { ...none, trainSteps: [1, 2, 3] });
  assert.deepEqual(fixed({ name: "draft-t" }), { ...none, trainSteps: [1, 2, 3, 4, 5, 6] });
  assert.deepEqual(fixed({ name: "draft-lv" }), { ...none, trainSteps: [1], redraws: 2 });
  const lengths = draws({ name: "alignprop" }, 6).map((p) => p.trainSteps.length);
  assert.deepEqual(new Set(lengths), new Set([1, 2, 3, 4, 5, 6]));
});

Deno.test("any method takes input stop-gradient and early stop, and always trains something", () => {
  for (const name of METHOD_NAMES) {
    for (const T of [2, 3, 7]) {
      for (const p of draws({ name, inputStopGradient: true, earlyStop: true, m: T - 1 }, T, 100)) {
        assert.ok(p.inputStopGradient);
        assert.ok(p.tMin >= 1 && p.tMin < T);
        assert.ok(p.trainSteps.some((t) => t >= p.tMin), `${name} reaches no trained step`);
        assert.ok(p.trainSteps.every((t) => t >= 1 && t <= T));
      }
    }
  }
  assert.deepEqual(METHOD_NAMES.toSorted(), Object.keys(METHODS).toSorted());
});

Deno.test("methods are special cases of one another", () => {
  // DRaFT-K with K = T is DRaFT-T.
  assert.deepEqual(draws({ name: "draft-k", k: 6 }, 6, 1), draws({ name: "draft-t" }, 6, 1));
  // DRaFT-LV without redraws is DRaFT-1.
  const [lv] = draws({ name: "draft-lv" }, 6, 1);
  assert.deepEqual(draws({ name: "draft-k", k: 1 }, 6, 1), [{ ...lv, redraws: 0 }]);
  // ReFL with the input stop-gradient, which changes nothing for one step, is DRTune that trains its stop alone.
  for (const refl of draws({ name: "refl", m: 5, inputStopGradient: true }, 6, 50)) {
    const found = draws({ name: "drtune", k: 1, m: 5 }, 6).find(({ trainSteps: [t], tMin }) =>
      tMin === refl.tMin && t === tMin
    );
    assert.deepEqual(found, refl);
  }
});

Deno.test("defaults are the paper's", () => {
  assert.deepEqual(resolveMethod({ name: "drtune" }, 50), {
    name: "drtune",
    k: 5,
    m: 20,
    inputStopGradient: true,
    earlyStop: true,
  });
  assert.deepEqual(resolveMethod({ name: "draft-k" }, 50).k, 10);
  assert.deepEqual(resolveMethod({ name: "drtune" }, 1).earlyStop, false);
});

Deno.test("parameters out of range are refused by name", () => {
  const refused = (options: MethodOptions, T: number, message: RegExp) =>
    assert.throws(() => resolveMethod(options, T), message);
  refused(
    { name: "drtune", k: 60 },
    50,
    /^FieldError: Field method\.k is 60, expected an integer of 1 to 50/,
  );
  refused({ name: "drtune", k: 0 }, 50, /method\.k is 0/);
  refused({ name: "drtune", m: 50 }, 50, /method\.m is 50, expected an integer of 1 to 49/);
  refused({ name: "drtune", m: 1.5 }, 50, /method\.m is 1\.5/);
  refused({ name: "draft-t", k: 3 }, 50, /method\.k is 3, expected none: draft-t/);
  refused({ name: "refl" }, 1, /sampler\.steps is 1, expected 2 or more: refl trains the step/);
  refused({ name: "refl", earlyStop: false }, 50, /method\.earlyStop is false, expected true/);
  refused({ name: "drtune", earlyStop: true }, 1, /method\.earlyStop is true, expected false/);
});
