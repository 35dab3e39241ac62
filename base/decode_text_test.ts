import assert from "node:assert/strict";
import { decodeLines, decodeText } from "./decode_text.ts";

const utf16 = (text: string, order: "le" | "be") => {
  const bytes = new Uint8Array(2 * text.length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < text.length; i++) view.setUint16(2 * i, text.charCodeAt(i), order === "le");
  return bytes;
};

Deno.test("decodeText() reads UTF-8 and UTF-16 with and without marks, and refuses what is neither", () => {
  const text = "ein Füchslein 🦊\r\nund Bücher\r\n\r\n";
  const utf8 = new TextEncoder().encode(text);
  assert.equal(decodeText(utf8, "a"), text);
  assert.equal(decodeText(Uint8Array.of(0xef, 0xbb, 0xbf, ...utf8), "a"), text);
  assert.equal(decodeText(utf16(`\ufeff${text}`, "le"), "a"), text);
  assert.equal(decodeText(utf16(`\ufeff${text}`, "be"), "a"), text);
  assert.equal(decodeText(new Uint8Array(), "a"), "");
  assert.throws(() => decodeText(utf16("fox", "le"), "a.txt"), /^InputError: a\.txt holds NUL/);
  assert.throws(
    () => decodeText(Uint8Array.of(0x66, 0xfc, 0x78), "a.txt"),
    /^InputError: a\.txt is not UTF-8, expected UTF-8, or UTF-16 with its mark$/,
  );
  assert.throws(() => decodeText(Uint8Array.of(0xff, 0xfe, 0x66), "a"), /is not UTF-16LE/);
  assert.deepEqual(decodeLines(utf8, "a"), ["ein Füchslein 🦊", "und Bücher"]);
  assert.deepEqual(decodeLines(new TextEncoder().encode("a\rb"), "a"), ["a", "b"]);
});
