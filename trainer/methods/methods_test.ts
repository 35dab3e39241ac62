import assert from "node:assert/strict";
import { randomStream } from "../random.ts";
import { dirichlet, wholeParts } from "./_draws.ts";
import {
  METHOD_NAMES,
  type MethodOptions,
  methodParameters,
  METHODS,
  resolveMethod,
  selectSteps,
  type StepSelection,
  supportsOf,
} from "./mod.ts";

function draws(options: MethodOptions, T: number, count = 400): StepSelection[] {
  const config = resolveMethod(options, T);
  return Array.from(
    { length: count },
    (_, iteration) =>
      selectSteps(config, { T, random: randomStream(1, "selection", { iteration }) }),
  );
}
const range = (values: number[]) => [Math.min(...values), Math.max(...values)];

Deno.test("DRTune spreads K steps from a start that keeps them within 1..T", () => {
  const selections = draws({ name: "drtune", k: 5, m: 20 }, 50);
  for (const { trainSteps, inputStopGradient, redraws } of selections) {
    const [start = 0] = trainSteps;
    assert.deepEqual(trainSteps, [0, 10, 20, 30, 40].map((d) => start + d));
    assert.ok(inputStopGradient);
    assert.equal(redraws, 0);
  }
  assert.deepEqual(range(selections.map((p) => p.trainSteps[0] ?? 0)), [1, 10]);
  assert.deepEqual(range(selections.map((p) => p.tMin)), [1, 20]);
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
    if (METHODS[name].trains === "surrogate") continue;
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

Deno.test("DRTune on a flow spreads its steps over those that run", () => {
  const config = resolveMethod({ name: "drtune" }, 25, { isFlow: true });
  assert.deepEqual(config, {
    name: "drtune",
    k: 3,
    m: 10,
    inputStopGradient: true,
    earlyStop: true,
    stepRule: "prefix",
  });
  const selections = draws({ name: "drtune", stepRule: "prefix" }, 25, 4000);
  for (const { trainSteps, tMin } of selections) {
    const [a = 0, b = 0, c = 0] = trainSteps;
    assert.equal(trainSteps.length, 3);
    const stride = Math.floor((25 - tMin + 1) / 3);
    assert.deepEqual([b - a, c - b], [stride, stride]);
    assert.ok(a >= tMin && c <= 25);
  }
  assert.deepEqual(range(selections.map((p) => p.tMin)), [1, 10]);
  // Where 3 divides the executed steps' number with a remainder of 1 the start is one of stride + 1.
  const of16 = selections.filter((p) => p.tMin === 10).map((p) => 25 - (p.trainSteps[2] ?? 0));
  assert.deepEqual(range(of16), [0, 5]);
  const short = draws({ name: "drtune", stepRule: "prefix", k: 5, m: 4 }, 5);
  assert.ok(short.some((p) => p.trainSteps.length === 2));
});

/** Index in sampling order. */
const indices = (steps: readonly number[], T: number) =>
  steps.map((t) => T - t).toSorted((a, b) => a - b);

Deno.test("LeapAlign draws unordered pairs of distinct steps", () => {
  const pairs = draws({ name: "leapalign" }, 5, 4000).map((p) => indices(p.trainSteps, 5));
  const counts = new Map<string, number>();
  for (const [k = NaN, j = NaN] of pairs) {
    assert.ok(k < j);
    counts.set(`${k} ${j}`, (counts.get(`${k} ${j}`) ?? 0) + 1);
  }
  assert.equal(counts.size, 10);
  // 400 each are expected: 5 standard deviations.
  for (const n of counts.values()) assert.ok(Math.abs(n - 400) < 95, `${n}`);
});

Deno.test("Sparse draws K distinct steps, late ones more often", () => {
  const selections = draws({ name: "flowbp-sparse", k: 1, bias: 1 }, 4, 4000);
  const counts = [0, 0, 0, 0];
  for (const { trainSteps: [t = 0] } of selections) counts[4 - t] = (counts[4 - t] ?? 0) + 1;
  counts.forEach((n, i) => assert.ok(Math.abs(n / 4000 - (i + 1) / 10) < 0.04, `${counts}`));
  for (const { trainSteps } of draws({ name: "flowbp-sparse", k: 7 }, 7, 50)) {
    assert.deepEqual(trainSteps, [1, 2, 3, 4, 5, 6, 7]);
  }
  for (const { trainSteps, surrogate } of draws({ name: "flowbp-sparse", window: 0.5 }, 10)) {
    assert.equal(trainSteps.length, 4);
    assert.ok(trainSteps.every((t) => t <= 5));
    assert.deepEqual(surrogate?.window, [5, 1]);
  }
});

Deno.test("Bridge has K steps, x_j's among them and some before it", () => {
  for (const T of [2, 3, 8, 25]) {
    for (const { trainSteps, surrogate } of draws({ name: "flowbp-bridge" }, T)) {
      const j = T - (surrogate?.bridge?.step ?? NaN);
      const active = indices(trainSteps, T);
      assert.ok(active.includes(j) && active.some((i) => i < j), `${active}, ${j}`);
      assert.ok(active.length <= 5);
      const pre = active.filter((i) => i < j).length;
      if (T === 25) {
        const share = Math.min(Math.max(Math.round(5 * j / 25), 1), 4, j);
        // The second part may be shorter than its share.
        assert.equal(pre, Math.min(Math.max(share, 5 - (25 - j)), j));
        assert.equal(active.length, Math.min(5, pre + 25 - j));
      }
    }
  }
});

Deno.test("Lagrange's intervals follow Dirichlet, the last of at most ten steps", () => {
  const T = 25;
  const selections = draws({ name: "flowbp-lagrange" }, T, 2000);
  const lengths = selections.map(({ surrogate, trainSteps }) => {
    const bridge = surrogate?.bridge;
    const { first, second } = bridge?.leaps ?? assert.fail();
    const [k, j] = [T - (first.supports[0] ?? NaN), T - (bridge?.step ?? NaN)];
    assert.ok(k >= 0 && k < j && T - j <= 10 && T - j >= 2);
    assert.deepEqual(first.active, first.supports.slice(0, 2));
    assert.equal(T - (second.supports[0] ?? NaN), j);
    assert.ok(first.supports.length <= 3 && second.supports.length <= 3);
    assert.deepEqual(
      trainSteps,
      [...first.active, ...second.active].toSorted((a, b) => a - b),
    );
    return [T - j - 1, j - k];
  });
  const mean = (i: number) => lengths.reduce((sum, l) => sum + (l[i] ?? NaN), 0) / lengths.length;
  // Dirichlet's means are 2.5, 6 and 2 of 10.5.
  assert.ok(Math.abs(mean(1) / T - 6 / 10.5) < 0.02, `${mean(1)}`);
  assert.ok(Math.abs(mean(0) / T - 2.5 / 10.5) < 0.05, `${mean(0)}`);
});

Deno.test("supports are about evenly spaced, or end where the leap starts", () => {
  const of = (a: number, b: number, order: number, weights: "lagrange" | "adams-bashforth") =>
    supportsOf(a, b, { order, weights });
  // As the golden cases have them.
  assert.deepEqual(of(2, 6, 3, "lagrange"), [2, 4, 5]);
  assert.deepEqual(of(6, 10, 3, "lagrange"), [6, 8, 9]);
  assert.deepEqual(of(1, 6, 3, "lagrange"), [1, 3, 5]);
  assert.deepEqual(of(3, 5, 3, "lagrange"), [3, 4]);
  assert.deepEqual(of(3, 9, 1, "lagrange"), [3]);
  assert.deepEqual(of(5, 9, 3, "adams-bashforth"), [5, 4, 3]);
  assert.deepEqual(of(1, 9, 3, "adams-bashforth"), [1, 0]);
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
  refused({ name: "drtune", alpha: 0.5 }, 9, /method\.alpha is 0\.5, expected none: drtune/);
  refused({ name: "refl", stepRule: "prefix" }, 9, /method\.stepRule is "prefix", expected none/);
  refused({ name: "leapalign", alpha: 2 }, 9, /method\.alpha is 2, expected 0 to 1/);
  refused({ name: "leapalign", k: 2 }, 9, /method\.k is 2, expected none: leapalign/);
  refused({ name: "leapalign", order: 2 }, 9, /method\.order is 2, expected none/);
  refused({ name: "leapalign" }, 1, /sampler\.steps is 1, of which leapalign may train 1/);
  refused({ name: "flowbp-bridge", k: 1 }, 9, /method\.k is 1, expected an integer of 2 to 9/);
  refused({ name: "flowbp-sparse", k: 5, window: 0.5 }, 8, /method\.k is 5, expected .* 1 to 4/);
  refused({ name: "flowbp-sparse", earlyStop: true }, 9, /method\.earlyStop is true, expected f/);
  refused({ name: "flowbp-lagrange", concentration: [1, 2] }, 9, /method\.concentration is \[1,2/);
  for (const c of [0, 0.001, 1e300, NaN]) {
    refused(
      { name: "flowbp-lagrange", concentration: [1, c, 1] },
      9,
      /method\.concentration is .*, expected three numbers of 0\.05 to 1000/,
    );
  }
  refused({ name: "flowbp-lagrange", window: 0.3 }, 5, /may train 2, expected 3 or more/);
  refused({ name: "drtune", earlyStop: true }, 1, /method\.earlyStop is true, expected false/);
});

Deno.test("The least and the greatest concentrations draw parts of 1; shares that are no numbers are refused", () => {
  for (const concentration of [[0.05, 0.05, 0.05], [0.05, 1000, 0.05], [1000, 1000, 1000]]) {
    draws({ name: "flowbp-lagrange", concentration }, 50);
    const random = randomStream(2, "selection");
    for (let i = 0; i < 1000; i++) {
      const sum = dirichlet(concentration, random).reduce((a, b) => a + b);
      assert.ok(Math.abs(sum - 1) < 1e-12);
    }
  }
  assert.throws(() => wholeParts([NaN, NaN, NaN], 9), /^RangeError: There are no 3 parts of 9/);
  assert.throws(() => wholeParts([0.5, 0.2, 0.3], 2), /^RangeError: There are no 3 parts of 2/);
});

Deno.test("Every method takes the parameters that it is said to have, and refuses all others", () => {
  const values = {
    ...{ k: 2, m: 2, inputStopGradient: true, earlyStop: true, stepRule: "prefix", bias: 1 },
    ...{ rescale: 0.5, alpha: 0.5, tau: 0.1, order: 2, weights: "uniform", supports: "all" },
    ...{ supportScale: 0.5, anchor: 0.5, concentration: [1, 1, 1], longestEnd: 3, window: 0.5 },
  } as const;
  for (const name of METHOD_NAMES) {
    const known = methodParameters(name);
    for (const [field, value] of Object.entries(values)) {
      // Methods with a surrogate may be told what they are anyway.
      const isSwitch = field === "inputStopGradient" || field === "earlyStop";
      if (isSwitch && "surrogate" in METHODS[name]) continue;
      const resolve = () => resolveMethod({ name, [field]: value }, 10);
      if (known.includes(field)) resolve();
      else assert.throws(resolve, { name: "FieldError", field: `method.${field}` });
    }
  }
});
