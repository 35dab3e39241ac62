import assert from "node:assert/strict";
import { cut } from "./cut.ts";

Deno.test("A long text is cut, and no character of it in two", () => {
  assert.equal(cut("abc", 3), "abc");
  assert.equal(cut("abcd", 3), "abc…");
  assert.equal(cut("a😀b", 2), "a…");
  assert.equal(cut("a😀b", 3), "a😀…");
  assert.equal(cut("😀".repeat(9), 5).isWellFormed(), true);
});
