import assert from "node:assert/strict";
import { csvLine, parseCsv } from "./csv.ts";

Deno.test("parseCsv reads quotes, commas and line breaks inside cells", () => {
  const text = 'image,prompt\r\na.png,"a ""red"" cat, sitting"\n\n"b\nc.png",\n';
  assert.deepEqual(parseCsv(text), [
    ["image", "prompt"],
    ["a.png", 'a "red" cat, sitting'],
    ["b\nc.png", ""],
  ]);
});

Deno.test("parseCsv reads lines that end as in Excel for Mac", () => {
  assert.deepEqual(parseCsv("image,prompt\ra.png,x\r\rb.png,y"), [
    ["image", "prompt"],
    ["a.png", "x"],
    ["b.png", "y"],
  ]);
});

Deno.test("csvLine writes what parseCsv reads", () => {
  const cells = ['a "b", c', "line\nbreak", "plain", ""];
  assert.deepEqual(parseCsv(csvLine(cells)), [cells]);
});
