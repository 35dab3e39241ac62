import assert from "node:assert/strict";
import { checkReading, drawnPrompt, rewardPrompt } from "./prompt_columns.ts";

Deno.test("a reward reads the prompt, a text around it, a column, or the prompt without a phrase", () => {
  const line = "a cat, and books on a pink background\ta cat\t a photo ";
  const drawn = "a cat, and books on a pink background";
  assert.equal(drawnPrompt(line), drawn);
  assert.equal(drawnPrompt("a fox"), "a fox");
  const cases = [
    [{}, drawn],
    [{ prompt: "a photo of {prompt}" }, `a photo of ${drawn}`],
    [{ prompt: "{3} of {2}, {2}" }, "a photo of a cat, a cat"],
    [{ without: [", and books"] }, "a cat on a pink background"],
    [
      { prompt: "sharp, {prompt}", without: [", and books", " on a pink background"] },
      "sharp, a cat",
    ],
    [{ prompt: "blurred" }, "blurred"],
  ] as const;
  for (const [reading, expected] of cases) {
    assert.equal(rewardPrompt(line, reading, "rewards.clip"), expected);
  }
});

Deno.test("what a reward cannot read is refused by its field", () => {
  const lines = ["a cat, and books\ta cat", "a dog, and books"];
  const refused = (reading: object, message: RegExp) =>
    assert.throws(() => checkReading(reading, { lines, field: "rewards.0" }), message);
  checkReading({ prompt: "{prompt}", without: [", and books"] }, { lines, field: "rewards.0" });
  refused({ prompt: "{promt}" }, /^FieldError: Field rewards\.0\.prompt has "\{promt\}", expected/);
  refused({ prompt: "{1}" }, /rewards\.0\.prompt has "\{1\}"/);
  refused(
    { prompt: "{2}" },
    /rewards\.0\.prompt names column 2, expected one of the 1 that tabs separate in "a dog, and books"/,
  );
  refused(
    { without: [", and books", "owl"] },
    /rewards\.0\.without\.1 is "owl", expected a phrase/,
  );
  refused({ without: ["a dog, and books"] }, /rewards\.0\.without leaves nothing of "a dog/);
});
