import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
// @ts-types="./_opentype.d.ts"
import opentype, { type Font } from "opentype.js";

const FILE = "@fontsource/dejavu-sans/files/dejavu-sans-latin-400-normal.woff";

/** Height of a line of text, in its size. */
export const LINE = 1.3;

let read: Font | undefined;

/** DejaVu Sans. Reading it takes longer than most commands, which draw nothing. */
function font(): Font {
  if (read !== undefined) return read;
  const bytes = readFileSync(createRequire(import.meta.url).resolve(FILE));
  return read = opentype.parse(new Uint8Array(bytes).buffer);
}

/**
 * Text as an SVG path, so that pictures look the same on machines without fonts. `size` is the font's in pixels; (x, y) the
 * top left corner of its line. Letters of Latin, Greek, Cyrillic, Arabic, Hebrew and many signs are drawn, one after the
 * other from left to right; an empty box stands for others, such as Chinese.
 */
export function textPath(
  text: string,
  { x, y, size, fill = "currentColor" }: {
    readonly x: number;
    readonly y: number;
    readonly size: number;
    readonly fill?: string;
  },
): string {
  const { unitsPerEm, ascender } = font();
  const baseline = y + size * ascender / unitsPerEm;
  let [at, d] = [x, ""];
  for (const ch of text) {
    const glyph = font().charToGlyph(ch);
    d += glyph.getPath(at, baseline, size).toPathData(1);
    at += size * glyph.advanceWidth / unitsPerEm;
  }
  return `<path fill="${fill}" d="${d}"/>`;
}

/** Width of a text in the units of `size`. */
export function textWidth(text: string, size: number): number {
  let units = 0;
  for (const ch of text) units += font().charToGlyph(ch).advanceWidth;
  return size * units / font().unitsPerEm;
}

/** A text that fits into a width: what does not is cut, with "…" in its place. */
export function cutText(text: string, { width, size }: { width: number; size: number }): string {
  if (textWidth(text, size) <= width) return text;
  const characters = [...text];
  while (characters.length > 0 && textWidth(`${characters.join("")}…`, size) > width) {
    characters.pop();
  }
  return `${characters.join("").trimEnd()}…`;
}
