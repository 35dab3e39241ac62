import assert from "node:assert/strict";
import { readingText, readPrompt } from "./prompt_reading.ts";

Deno.test("A reward reads what its term says, as it does while the run trains", () => {
  assert.equal(readPrompt("a fox, and books", {}), "a fox, and books");
  assert.equal(readPrompt("a fox", { prompt: "", without: [] }), "a fox");
  assert.equal(readPrompt("a fox, and books", { without: [", and books"] }), "a fox");
  assert.equal(readPrompt("a fox, and books", { without: ["a ", "books"] }), "fox, and");
  const twice = { prompt: "{prompt} on {prompt}", without: [", and books"] };
  assert.equal(readPrompt("a $& boat, and books", twice), "a $& boat on a $& boat");
  assert.equal(readPrompt("a fox", { prompt: "nothing of it: $1" }), "nothing of it: $1");
  assert.throws(() => readPrompt("a fox", { prompt: "{2}" }), /column \{2\}.*a fox has none/);
});

Deno.test("What a reward reads is said where it is not the prompt", () => {
  assert.deepEqual(readingText({ prompt: "", without: [] }), []);
  assert.deepEqual(readingText({ without: ["a", "b"] }), ["reads the prompt without “a”, “b”"]);
  assert.deepEqual(readingText({ prompt: "a photo of {prompt}", without: [", and books"] }), [
    "reads “a photo of {prompt}”",
    "the prompt without “, and books”",
  ]);
});
