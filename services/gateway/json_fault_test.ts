import assert from "node:assert/strict";
import { jsonFault } from "./json_fault.ts";

Deno.test("A text that is no JSON is told by line, column and what stands there", () => {
  const cases: [text: string, line: number, column: number, found: string][] = [
    ["", 1, 1, ""],
    ["{", 1, 2, ""],
    ['{"a": 1', 1, 8, ""],
    ['{\n  "a": 1,\n  b: 2\n}', 3, 3, "b"],
    ['{\n  "a": [1, 2\n}', 3, 1, "}"],
    ['{"a": 1,}', 1, 9, "}"],
    ['{"a": 1 "b": 2}', 1, 9, '"b"'],
    ['{"a" 1}', 1, 6, "1"],
    ["[1, 2] 3", 1, 8, "3"],
    ['{"a": nul}', 1, 7, "nul"],
    ['{"a": 012}', 1, 8, "12"],
    ['{"a": "no end\n"}', 1, 7, '"no end'],
    ['{"a": "\\x"}', 1, 7, '"\\x"'],
    ["{'a': 1}", 1, 2, "'"],
    // As long as any stack, and longer.
    [`{"a": "${"x".repeat(2 ** 24)}",}`, 1, 2 ** 24 + 10, "}"],
    [`{"a": "${'\\"'.repeat(2 ** 22)}`, 1, 7, '"\\"'],
    [`[${"1,\n".repeat(20_000)}?]`, 20_001, 1, "?"],
  ];
  for (const [text, line, column, found] of cases) {
    assert.throws(() => JSON.parse(text), text.slice(0, 40));
    assert.deepEqual(jsonFault(text), { line, column, found }, text.slice(0, 40));
  }
});
