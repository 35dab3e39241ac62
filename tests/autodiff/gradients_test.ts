import { OP_CASES } from "./op_cases.ts";

for (const [op, cases] of Object.entries(OP_CASES)) {
  Deno.test(`gradient of ${op}`, async (t) => {
    for (const [name, opCase] of Object.entries(cases)) {
      await t.step(name || "plain", () => opCase.verify());
    }
  });
}
