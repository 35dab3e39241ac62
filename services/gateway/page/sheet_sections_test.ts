import assert from "node:assert/strict";
import { type DrawnImage, sectionsOf } from "./sheet_sections.ts";

const image = (seed: number, clip?: number): DrawnImage => ({
  prompt: "a fox",
  seed,
  url: "",
  scores: clip === undefined ? {} : { clip },
});
const IMAGES = [
  image(0, 0.3),
  image(1, 0.1),
  image(2),
  image(3, NaN),
  image(4, 0.5),
  image(5, 0.2),
];

const seeds = (
  order: { readonly reward: string; readonly ends: number },
  better: "smaller" | "larger" = "larger",
) =>
  sectionsOf(IMAGES, order, new Map([["clip", better]]))
    .map(({ images }) => images.map(({ seed }) => seed));

Deno.test("A sheet stands in order of a reward, by which way is better; what has no score stands last", () => {
  assert.deepEqual(seeds({ reward: "", ends: 4 }), [[0, 1, 2, 3, 4, 5]]);
  assert.deepEqual(seeds({ reward: "clip", ends: 0 }), [[4, 0, 5, 1, 2, 3]]);
  assert.deepEqual(seeds({ reward: "clip", ends: 0 }, "smaller"), [[1, 5, 0, 4, 2, 3]]);
});

Deno.test("The best and the worst of a sheet share no image", () => {
  assert.deepEqual(seeds({ reward: "clip", ends: 2 }), [[4, 0], [2, 3]]);
  assert.deepEqual(seeds({ reward: "clip", ends: 4 }), [[4, 0, 5, 1], [2, 3]]);
  assert.deepEqual(seeds({ reward: "clip", ends: 6 }), [[4, 0, 5, 1, 2, 3]]);
});

Deno.test("Scores stand under every image in one order, in whichever they came", () => {
  const scored = [{ clip: 1, symmetry: 2 }, { symmetry: 2, clip: 1 }, { symmetry: 2 }]
    .map((scores): DrawnImage => ({ ...image(0), scores }));
  const better = new Map([["symmetry", "smaller"], ["clip", "larger"]]);
  const [section] = sectionsOf(scored, { reward: "", ends: 0 }, better);
  assert.deepEqual(
    section?.images.map(({ scores }) => Object.keys(scores).join()),
    ["symmetry,clip", "symmetry,clip", "symmetry"],
  );
});
