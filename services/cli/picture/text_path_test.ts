import assert from "node:assert/strict";
import sharp from "sharp";
import { cutText, textPath, textWidth } from "./text_path.ts";

Deno.test("Texts are as wide as DejaVu Sans has their letters", () => {
  // Advances of "a", "W" and a box, of 2048, by fontTools.
  assert.equal(textWidth("a", 2048), 1255);
  assert.equal(textWidth("aW", 2048), 1255 + 2025);
  assert.equal(textWidth("狐", 2048), 1229);
});

Deno.test("A text is cut where it would be wider than its place", () => {
  const text = "a lighthouse at dusk";
  assert.equal(cutText(text, { width: textWidth(text, 13), size: 13 }), text);
  const cut = cutText(text, { width: 80, size: 13 });
  assert.match(cut, /^a light.*…$/);
  assert.ok(textWidth(cut, 13) <= 80);
  assert.equal(cutText(text, { width: 0, size: 13 }), "…");
});

Deno.test("Letters stand inside of their line, from x on, whatever fonts a machine has", async () => {
  const path = textPath("Éдß", { x: 10, y: 20, size: 40, fill: "#000" });
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="120" height="80">${path}</svg>`;
  const { data, info } = await sharp(new TextEncoder().encode(svg)).ensureAlpha().raw()
    .toBuffer({ resolveWithObject: true });
  const inked = Array.from({ length: info.width * info.height }, (_, i) => i)
    .filter((i) => (data[4 * i + 3] ?? 0) > 128);
  const [xs, ys] = [inked.map((i) => i % info.width), inked.map((i) => Math.floor(i / info.width))];
  assert.ok(inked.length > 500, `${inked.length}`);
  assert.ok(Math.min(...xs) >= 10 && Math.max(...xs) <= 10 + textWidth("Éдß", 40));
  assert.ok(Math.min(...ys) >= 20 && Math.max(...ys) <= 20 + 1.3 * 40);
});
