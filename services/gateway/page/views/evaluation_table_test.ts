import assert from "node:assert/strict";
import { evaluationCsv, verdict } from "./evaluation_table.ts";

Deno.test("A difference is better or worse where its interval leaves zero out, by the reward's direction", () => {
  assert.equal(verdict([0.1, 0.3], "larger"), "better");
  assert.equal(verdict([0.1, 0.3], "smaller"), "worse");
  assert.equal(verdict([-0.3, -0.1], "smaller"), "better");
  assert.equal(verdict([-0.3, -0.1], undefined), "fell");
  for (const interval of [[-0.1, 0.1], [0, 0.1], [NaN, NaN]] as const) {
    assert.equal(verdict(interval, "larger"), "no difference that is certain");
  }
});

Deno.test("Pairs are CSV in which a prompt is text, whatever it begins with", () => {
  const pair = (prompt: string) => ({
    prompt,
    seed: 7,
    before: { clip: 0.25 },
    after: { clip: -0.5 },
  });
  assert.equal(
    evaluationCsv([pair('a "red", fox'), pair("=1+2"), pair("-cat")]),
    "prompt,seed,clip without,clip with\r\n" +
      '"a ""red"", fox",7,0.25,-0.5\r\n' +
      "'=1+2,7,0.25,-0.5\r\n" +
      "'-cat,7,0.25,-0.5\r\n",
  );
});
