import assert from "node:assert/strict";
import { OPS_FILE, opsTable } from "./ops_table.ts";

Deno.test("the table of operators is up to date", async () => {
  assert.equal(await Deno.readTextFile(OPS_FILE), opsTable(), "Run deno task ops");
});
