import assert from "node:assert/strict";
import { ONNX_FILE, onnxTable } from "./onnx_table.ts";

Deno.test("the table of what ONNX files may hold is up to date", async () => {
  assert.equal(await Deno.readTextFile(ONNX_FILE), onnxTable(), "Run deno task onnx-table");
});
