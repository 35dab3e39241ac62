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
  assert.equal(nearest("hps", ["hpsv2", "clip"]), "hpsv2");
  assert.equal(nearest("cl", ["clip", "hpsv2"]), undefined);
  assert.equal(nearest("clip-", ["clip-l", "clip-h"]), "clip-l");
});
