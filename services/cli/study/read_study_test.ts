import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UsageError } from "../command.ts";
import { deepMerge } from "./deep_merge.ts";
import { cellsOf, runOf } from "./grid_runs.ts";
import { readStudy } from "./read_study.ts";

const STUDY = `title: A
question: B
base:
  model: pipeline
  prompts: { list: { prompts: [a fox] } }
  optimizer: { learningRate: 1.0e-3 }
axes:
  method:
    one: { method: { name: refl, m: 2 } }
    two: { method: { name: draft-lv } }
  reward:
    symmetry: { rewards: [{ name: symmetry }] }
    clip: { rewards: [{ name: clip, weight: 2 }, { name: symmetry }] }
skip: [{ method: two, reward: clip }]
seeds: [3, 4]
budget: 7
measure: { seed: 1, imagesPerPrompt: 2 }
plots: [{ kind: rows, rows: method, panels: reward }]
`;

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "drtune-study-"));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

Deno.test("deepMerge() lays mappings over one another", () => {
  const merged = deepMerge({ a: { b: 1, c: [1, 2] }, d: 1, e: 2 }, {
    a: { b: 3, c: [4] },
    d: null,
  });
  assert.deepEqual(merged, { a: { b: 3, c: [4] }, e: 2 });
});

Deno.test("a study's cells are every value with every other but those left out; each run has a name of its own", async () => {
  await inFolder(async (folder) => {
    const file = join(folder, "mine.yaml");
    await writeFile(file, STUDY);
    const { name, study } = await readStudy(file);
    assert.ok(study.kind === "grid");
    const cells = cellsOf(study);
    assert.deepEqual(cells, [
      { method: "one", reward: "symmetry" },
      { method: "one", reward: "clip" },
      { method: "two", reward: "symmetry" },
    ]);
    const order = { cell: cells[1] ?? {}, seed: 4, budget: 7, measure: study.measure };
    const run = runOf({ name, study }, order);
    assert.match(run.id, /^mine-one-clip-s4-[0-9a-f]{8}$/);
    assert.equal(run.config.method?.m, 2);
    assert.deepEqual(run.config.rewards.map((r) => [r.name, r.weight]), [["clip", 2], [
      "symmetry",
      undefined,
    ]]);
    assert.equal(run.config.seed, 4);
    assert.equal(run.config.budget?.seconds, 7);
    assert.equal(run.config.optimizer?.learningRate, 1e-3);
    // What decides the outcome decides the name, so that nothing old is taken for it.
    const settings = { optimizer: { learningRate: 2e-3 } };
    const other = runOf({ name, study }, { ...order, settings });
    assert.equal(other.config.optimizer?.learningRate, 2e-3);
    assert.notEqual(other.id, run.id);
    assert.equal(runOf({ name, study }, order).id, run.id);
  });
});

Deno.test("a study may extend another; faults name the file, the field, what was found and what was expected", async () => {
  await inFolder(async (folder) => {
    await writeFile(join(folder, "base.yaml"), STUDY);
    const file = join(folder, "mine.yaml");
    await writeFile(file, "extends: base.yaml\ntitle: C\nbase: { optimizer: null }\nbudget: 9\n");
    const { study } = await readStudy(file);
    assert.ok(study.kind === "grid");
    assert.deepEqual([study.title, study.budget, study.base["optimizer"]], ["C", 9, undefined]);
    const refused = async (text: string, message: RegExp) => {
      await writeFile(file, text);
      await assert.rejects(
        readStudy(file).then((read) => {
          if (read.study.kind !== "grid") return;
          const [cell = {}] = cellsOf(read.study);
          runOf(
            { name: read.name, study: read.study },
            { cell, seed: 0, budget: 1, measure: read.study.measure },
          );
        }),
        (error) => {
          assert.ok(error instanceof UsageError, `${error}`);
          assert.match(error.message, message);
          return true;
        },
      );
    };
    await refused(
      STUDY.replace("budget: 7", "budget: -7"),
      /mine\.yaml:16: budget is -7, expected more than 0/,
    );
    await refused(
      STUDY.replace("seeds: [3, 4]", "seeds: [3, 3]"),
      /mine\.yaml:15: seeds .*distinct/,
    );
    await refused(
      STUDY.replace("rows: method", "rows: methods"),
      /mine\.yaml:18: plots\.0\.rows is "methods", expected an axis: method, reward/,
    );
    await refused(
      STUDY.replace("name: refl, m: 2", "name: refl, mm: 2"),
      /Runs of one, symmetry: method\.mm is not known here, did you mean m\?/,
    );
    await refused("extends: base.yaml\nextend: 1\n", /extend is not known here/);
    await refused("extends: [a]\n", /extends is \["a"\], expected a file/);
    await assert.rejects(readStudy("tabel1"), /did you mean table1\?/);
    await writeFile(file, "extends: mine.yaml\n");
    await assert.rejects(readStudy(file), /more than 8 studies extend one another/);
  });
});
