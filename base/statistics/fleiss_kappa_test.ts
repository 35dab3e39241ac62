import assert from "node:assert/strict";
import { fleissKappa } from "./fleiss_kappa.ts";

Deno.test("Fleiss' kappa is that of his published example, and of its definition at the ends", () => {
  // Fourteen voters, ten subjects, five answers: the worked example of the literature, kappa 0.210.
  const example = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
  ];
  assert.ok(Math.abs(fleissKappa(example) - 0.2099307) < 1e-6, `${fleissKappa(example)}`);
  assert.equal(fleissKappa([[3, 0], [0, 3], [3, 0]]), 1);
  // Two voters who never agree about two answers that are as frequent: -1.
  assert.equal(fleissKappa([[1, 1], [1, 1]]), -1);
  assert.ok(Number.isNaN(fleissKappa([[3, 0], [3, 0]])));
  // One vote agrees with nobody's.
  assert.equal(fleissKappa([[3, 0], [0, 3], [1, 0]]), 1);
});
