import assert from "node:assert/strict";
import { tooManyContainers, tooManyParts } from "./json_parts.ts";

Deno.test("What a text consists of is counted outside of its strings", () => {
  const fine = JSON.stringify({
    prompts: ["[[[[".repeat(5000), 'a "\\" b', "\\", ",".repeat(9e5)],
  });
  assert.equal(tooManyParts(fine), undefined);
  assert.equal(tooManyParts(`["${"\\\\".repeat(500)}", "[${"[".repeat(5000)}"]`), undefined);
  for (const empty of ["[]", "{}"]) {
    const text = `{"images":[${Array(2001).fill(empty).join()}]}`;
    assert.equal(tooManyParts(text), "has more than 2000 lists and objects");
    assert.equal(tooManyContainers(JSON.parse(text)), "has more than 2000 lists and objects");
  }
  assert.equal(tooManyParts(`[${"1,".repeat(200_001)}1]`), "has more than 200000 elements");
  assert.equal(tooManyParts(`["never ends, ${"[".repeat(9000)}`), undefined);
  assert.equal(tooManyParts("[".repeat(101)), "is nested more than 100 deep");
  assert.equal(tooManyContainers({ a: [{}, { b: null }] }), undefined);
});

Deno.test("No text takes longer than one look at each of its characters", () => {
  // Backslashes in a row are looked at once for each quote behind them, of which there is one.
  assert.equal(tooManyParts(`"${"\\".repeat(4e6)}`), undefined);
  assert.equal(tooManyParts(`"${'\\"'.repeat(2e6)}"`), undefined);
});
