import assert from "node:assert/strict";
import { nearest } from "./nearest.ts";

Deno.test("nearest finds the word that was meant, and none where nothing is near", () => {
  const words = ["train", "watch", "status", "stop", "score"];
  const cases: [string, string | undefined][] = [
    ["trian", "train"],
    ["statsu", "status"],
    ["wach", "watch"],
    ["stpo", "stop"],
    ["scores", "score"],
    ["train", "train"],
    ["deploy", undefined],
    ["x", undefined],
  ];
  for (const [word, expected] of cases) assert.equal(nearest(word, words), expected, word);
});
