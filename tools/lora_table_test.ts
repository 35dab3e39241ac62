import assert from "node:assert/strict";
import { LORA_FILE, loraTable } from "./lora_table.ts";

Deno.test("docs/lora.md is what the code reads and refuses", async () => {
  assert.equal(await Deno.readTextFile(LORA_FILE), loraTable(), "Run deno task lora-table");
});
