import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readVotes } from "./votes.ts";

Deno.test("votes of three people: majorities by category, and how far they agree", async () => {
  const folder = await mkdtemp(join(tmpdir(), "drtune-votes-"));
  try {
    const save = async (name: string, answers: string, step = 40) => {
      const contestants = { A: { runId: "books-1", step: 0 }, B: { runId: "books-1", step } };
      const places = [["a fox", "animals"], ["a dog", "animals"], ["a hut", "places"], [
        "a hut",
        "places",
      ]];
      const votes = places.map(([prompt, category], i) => ({
        ...{ prompt, category, left: "A", vote: answers[i] === "=" ? "tie" : answers[i] },
      }));
      const path = join(folder, `${name}.json`);
      await writeFile(path, JSON.stringify({ contestants, seed: 0, votes, tallies: [] }));
      return path;
    };
    const files = [
      await save("one", "BBA="),
      await save("two", "BABB"),
      await save("three", "B=AA"),
    ];
    const { contestants, voters, tallies } = await readVotes(files);
    assert.deepEqual(contestants, { A: "books-1 without LoRA", B: "books-1@40" });
    assert.equal(voters, 3);
    assert.deepEqual(
      tallies.map(({ category, pairs, wins }) => [category, pairs, wins]),
      [
        ["animals", 2, { A: 0, ties: 1, B: 1 }],
        ["places", 2, { A: 1, ties: 1, B: 0 }],
        ["all", 4, { A: 1, ties: 2, B: 1 }],
      ],
    );
    // By hand: pairs that agree 3 + 0 + 1 + 0 of 3 each; answers A 4, B 6, tie 2 of 12.
    const [observed, expected] = [4 / 12, (16 + 36 + 4) / 144];
    const all = tallies.at(-1);
    assert.ok(
      Math.abs((all?.kappa ?? NaN) - (observed - expected) / (1 - expected)) < 1e-12,
      `${all?.kappa}`,
    );
    await assert.rejects(
      readVotes([...files, await save("other", "BBBB", 20)]),
      /other\.json compares books-1@20 as B, expected books-1@40/,
    );
    await writeFile(join(folder, "none.json"), "{}");
    await assert.rejects(readVotes([join(folder, "none.json")]), /none\.json holds no votes/);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
