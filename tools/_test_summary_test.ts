import assert from "node:assert/strict";
import { parseTestSummary } from "./_test_summary.ts";

Deno.test("parseTestSummary reads a parallel run of deno itself", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(
      `${folder}/a_test.ts`,
      `Deno.test("ok", () => {});
       Deno.test("steps", async (t) => { await t.step({ name: "later", ignore: true, fn() {} }); });
       Deno.test({ name: "needs <Python>", ignore: true, fn() {} });
       Deno.test("says ok | 9 passed | 9 failed", () => { throw new Error("wrong"); });`,
    );
    await Deno.writeTextFile(`${folder}/b_test.ts`, `throw new Error("does not load");`);
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "--no-check", "--parallel", "--no-config", "a_test.ts", "b_test.ts"],
      cwd: folder,
      env: { NO_COLOR: "1" },
    }).output();
    assert.deepEqual(parseTestSummary(new TextDecoder().decode(stdout)), {
      passed: 2,
      failed: 2,
      skipped: ["steps ... later (./a_test.ts)", "needs <Python> (./a_test.ts)"],
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("parseTestSummary has nothing to say about a run without a closing line", () => {
  assert.equal(parseTestSummary("./a_test.ts => ok ... ok (1ms)\nSegmentation fault"), undefined);
});

Deno.test("parseTestSummary takes the last closing line", () => {
  const output =
    "ok | 1 passed | 0 failed (2ms)\n\nok | 3 passed (2 steps) | 0 failed | 4 filtered out (5ms)";
  assert.deepEqual(parseTestSummary(output), { passed: 3, failed: 0, skipped: [] });
});
