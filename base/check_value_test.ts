import assert from "node:assert/strict";
import { z } from "zod";
import { checkValue } from "./mod.ts";

Deno.test("Faults are put into words as they are asked for, all in one form", () => {
  let shown = 0;
  const found = { toJSON: () => `found ${++shown}` };
  const schema = z.object({
    name: z.string().min(1),
    rank: z.int(),
    sizes: z.array(z.int()).max(1),
    kind: z.enum(["a", "b"]),
    lora: z.strictObject({ rank: z.number("a rank") }),
    pair: z.array(z.int()).refine(
      (all) => new Set(all).size === all.length,
      "expected no two alike",
    ),
    last: z.number(),
  });
  const value = {
    ...{
      name: "",
      rank: 0.5,
      sizes: [1, 2],
      kind: "c",
      lora: { rank: "x", ranks: 1 },
      pair: [1, 1],
    },
    last: found,
  };
  const checked = checkValue(schema, value);
  assert.deepEqual(checked.fault, {
    path: ["name"],
    message: 'is "", expected text that is not empty',
  });
  assert.equal(shown, 0);
  assert.deepEqual(
    [...checked.fault ? checked.faults() : []].map(({ path, message }) =>
      `${path.join(".")} ${message}`
    ),
    [
      'name is "", expected text that is not empty',
      "rank is 0.5, expected a whole number",
      "sizes is [1,2], expected at most 1 entries",
      'kind is "c", expected one of a, b',
      'lora.rank is "x", expected a rank',
      "lora.ranks is not known here, did you mean rank?",
      "pair is [1,1], expected no two alike",
      'last is "found 1", expected a number',
    ],
  );
  assert.deepEqual(checkValue(z.int(), 3), { data: 3 });
});
