import assert from "node:assert/strict";
import { checkSizes } from "./_check_sizes.ts";

const lines = (count: number) => "// One line.\n".repeat(count);
const classOf = (name: string, length: number) =>
  `/** Something. */\nexport class ${name} {\n${lines(length - 2)}}\n`;

Deno.test("Files above 400 lines and classes above 250 are found, but in tests and where decisions.md says why", () => {
  const problems = checkSizes(
    new Map([
      ["base/fits.ts", lines(400)],
      ["base/long.ts", lines(401)],
      ["base/long_test.ts", lines(401)],
      ["services/gateway/testing/fake.ts", classOf("Fake", 251)],
      ["tests/soak/load.ts", lines(401)],
      ["rewards/fits.ts", classOf("Fits", 250)],
      ["rewards/wide.ts", classOf("Wide", 251)],
      ["autodiff/builder.ts", classOf("Builder", 251)],
    ]),
  );
  assert.deepEqual(problems, [
    {
      file: "base/long.ts",
      line: 1,
      message: "The file has 401 lines, expected at most 400",
    },
    {
      file: "rewards/wide.ts",
      line: 2,
      message: "Class Wide has 251 lines, expected at most 250",
    },
  ]);
});
