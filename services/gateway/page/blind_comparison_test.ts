import assert from "node:assert/strict";
import { BlindComparison, parsePrompts } from "./blind_comparison.ts";

function comparison(draws: readonly number[]): BlindComparison<string> {
  let at = 0;
  return new BlindComparison<string>(() => draws[at++] ?? 0);
}

const images = { A: "a", B: "b" };

Deno.test("A vote counts for what stood on that side", () => {
  // Left is A, B, A, B.
  const blind = comparison([0, 0.9, 0, 0.9]);
  for (const prompt of ["1", "2", "3", "4"]) blind.add({ prompt, category: "all", images });
  assert.deepEqual(blind.pairs.map(({ left }) => left), ["A", "B", "A", "B"]);
  blind.vote("left");
  blind.vote("left");
  blind.vote("right");
  blind.vote("tie");
  blind.vote("left");
  assert.equal(blind.judged, 4);
  assert.deepEqual(blind.pairs[blind.judged], undefined);
  const [tally] = blind.tallies();
  assert.deepEqual([tally?.A, tally?.B, tally?.ties], [1, 2, 1]);
  assert.equal(tally?.share, 2 / 3);
  assert.deepEqual(blind.votes().map(({ vote }) => vote), ["A", "B", "B", "tie"]);
  blind.undo();
  assert.equal(blind.current?.prompt, "4");
});

Deno.test("Categories are tallied apart, and together", () => {
  const blind = comparison([0, 0, 0]);
  blind.add({ prompt: "1", category: "animals", images });
  blind.add({ prompt: "2", category: "places", images });
  blind.add({ prompt: "3", category: "places", images });
  for (const choice of ["right", "right", "left"] as const) blind.vote(choice);
  assert.deepEqual(blind.tallies().map(({ category, A, B }) => [category, A, B]), [
    ["animals", 0, 1],
    ["places", 1, 1],
    ["all", 1, 2],
  ]);
});

Deno.test("Sides are drawn evenly", () => {
  const blind = new BlindComparison<string>();
  for (let i = 0; i < 4000; i++) blind.add({ prompt: "", category: "", images });
  const left = blind.pairs.filter(({ left }) => left === "A").length;
  // Eight standard deviations of a fair coin.
  assert(Math.abs(left - 2000) < 8 * Math.sqrt(1000), String(left));
});

Deno.test("Prompts are lines under the names of their categories", () => {
  assert.deepEqual(parsePrompts("a fox\n\n# places\n a pier \n#\nan owl"), [
    { prompt: "a fox", category: "all" },
    { prompt: "a pier", category: "places" },
    { prompt: "an owl", category: "all" },
  ]);
});
