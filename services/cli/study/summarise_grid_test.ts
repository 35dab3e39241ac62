import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { RunConfigSchema } from "../../../proto/mod.ts";
import { chooseSettings, improvement } from "./choose_settings.ts";
import type { Measured } from "./run_grid.ts";
import { quantity, rankings, summariseGrid } from "./summarise_grid.ts";

const pictures = (values: readonly number[]) =>
  values.map((light, i) => ({ prompt: `p${i % 2}`, seed: Math.floor(i / 2), scores: { light } }));

const BEFORE = [1, 2, 3, 4];

function run(method: string, seed: number, after: readonly number[]): Measured {
  const cell = { method, reward: "light" };
  const config = create(RunConfigSchema, { rewards: [{ name: "light" }, { name: "other" }] });
  const id = `${method}-${seed}`;
  const spent = { iterations: 10, compute: 5, rewardSeconds: 1, wallSeconds: 6, allSeconds: 8 };
  const frozen = { method: { name: "drtune", k: 2, m: 4 }, sampler: { steps: 20 } };
  const measure = { seed: 0, imagesPerPrompt: 2 };
  return {
    spec: { id, cell, seed, fields: {}, config, budget: 5, measure },
    result: {
      id,
      cell,
      seed,
      budget: 5,
      ...spent,
      curve: [],
      panel: [],
      config: frozen,
      pictures: pictures(after),
    },
    baseline: { key: "k", pictures: pictures(BEFORE) },
  };
}

Deno.test("a cell's change is paired by picture, over pictures of two seeds and over seeds of three", () => {
  const two = [run("A", 0, [2, 3, 4, 5]), run("A", 1, [2, 3, 4, 7])];
  const summary = summariseGrid({ runs: two, choices: [] }, () => true);
  const [cell] = summary.cells;
  assert.deepEqual([summary.intervals, summary.pictures, cell?.target], ["pictures", 4, "light"]);
  const light = cell?.rewards["light"];
  assert.deepEqual([light?.before, light?.after, light?.bySeed], [2.5, 3.75, [1, 1.5]]);
  // Changes of the pictures, mean over seeds: 1, 1, 1, 2; t(3) = 3.182446.
  const { mean = NaN, low = NaN } = light?.change ?? {};
  assert.ok(Math.abs(mean - 1.25) < 1e-12);
  assert.ok(Math.abs(mean - low - 3.182446305284263 * Math.sqrt(0.25 / 4)) < 1e-9);
  const three = summariseGrid(
    { runs: [...two, run("A", 2, [3, 4, 5, 6])], choices: [] },
    () => true,
  );
  assert.equal(three.intervals, "training seeds");
  // Of the seeds: 1, 1.5, 2; t(2) = 4.302653.
  const over = three.cells[0]?.rewards["light"]?.change;
  assert.ok(Math.abs((over?.high ?? NaN) - 1.5 - 4.302652729911275 * 0.5 / Math.sqrt(3)) < 1e-9);
  assert.ok(cell);
  assert.deepEqual(["k/T", "m/T", "k", "T"].map((x) => quantity(cell, x)), [0.1, 0.2, 2, 20]);
  assert.ok(Number.isNaN(quantity({ quantities: { T: 20 } }, "k/T")), "a method without K");
});

Deno.test("cells are ranked by what they train, in its direction, and compared picture by picture", () => {
  const runs = [run("A", 0, [2, 3, 4, 5]), run("B", 0, [0, 1, 2, 3]), run("C", 0, [2, 3, 4, 5.1])];
  const order = (isUp: boolean) => {
    const summary = summariseGrid({ runs, choices: [] }, () => isUp);
    const [ranking] = rankings(runs, { summary, by: "reward" });
    return ranking?.order.map((
      { cell, behind },
    ) => [cell["method"], Number(behind.mean.toFixed(3))]);
  };
  assert.deepEqual(order(true), [["C", 0], ["A", -0.025], ["B", -2.025]]);
  assert.deepEqual(order(false), [["B", 0], ["A", 2], ["C", 2.025]]);
});

Deno.test("settings are chosen by the mean improvement in standard deviations, for each value of their axes", () => {
  const trial = (method: string, candidate: string, after: readonly number[]) => ({
    ...{ cell: { method, reward: "light" }, candidate, target: "light", isUp: false },
    ...{ before: pictures(BEFORE), after: pictures(after) },
  });
  const trials = [
    trial("A", "slow", [1, 2, 3, 3]),
    trial("A", "fast", [0, 1, 2, 3]),
    trial("A", "fast", [1, 2, 3, 4]),
    trial("B", "slow", [1, 2, 3, 4]),
    trial("B", "fast", [2, 3, 4, 5]),
  ];
  // The deviation of 1, 2, 3, 4 is the root of 5/3.
  const sd = Math.sqrt(5 / 3);
  assert.ok(Math.abs(improvement(trial("A", "fast", [0, 1, 2, 3])) - 1 / sd) < 1e-12);
  const [a, b, ...more] = chooseSettings(trials, ["method"]);
  assert.deepEqual([a?.of, a?.candidate, b?.of, b?.candidate, more.length], [
    ...[{ method: "A" }, "fast", { method: "B" }, "slow", 0],
  ]);
  assert.ok(Math.abs((a?.improvements["fast"] ?? NaN) - 0.5 / sd) < 1e-12);
});
