import { Buffer } from "node:buffer";
import sharp, { type OverlayOptions } from "sharp";
import { CELL, textPath } from "./pixel_font.ts";

/** One picture of a sheet and the lines under it. */
export interface Tile {
  /** A PNG or JPEG file's bytes. */
  readonly image: Uint8Array;
  readonly lines: readonly string[];
}

/** Rows of tiles under a heading. */
export interface SheetSection {
  readonly heading: string;
  readonly tiles: readonly Tile[];
}

const [GAP, DOT] = [12, 1.5];
const LINE = CELL.height * DOT;
const HEADING = CELL.height * 2 + 8;

/**
 * A PNG of pictures with text under them. Pictures are scaled to `tile` pixels on their longer side (small ones by
 * whole pixels, so that they stay sharp). Texts take at most two lines; what does not fit is cut with "..".
 */
export async function contactSheet(
  sections: readonly SheetSection[],
  { columns, tile = 192 }: { readonly columns: number; readonly tile?: number },
): Promise<Uint8Array> {
  const width = GAP + columns * (tile + GAP);
  const layers: OverlayOptions[] = [];
  let svg = "";
  let y = GAP;
  for (const { heading, tiles } of sections) {
    if (heading !== "") {
      svg += textPath(cut(heading, width - 2 * GAP, 2), { x: GAP, y, size: 2, fill: "#1f2430" });
      y += HEADING;
    }
    const wrapped = tiles.map((t) => ({ ...t, lines: t.lines.flatMap((l) => wrap(l, tile, DOT)) }));
    for (let start = 0; start < tiles.length; start += columns) {
      const row = wrapped.slice(start, start + columns);
      for (const [i, { image, lines }] of row.entries()) {
        const x = GAP + i * (tile + GAP);
        layers.push({ input: await fit(image, tile), left: x, top: y });
        for (const [n, line] of lines.entries()) {
          svg += textPath(line, {
            x,
            y: y + tile + 6 + n * LINE,
            size: DOT,
            fill: "#4a5162",
          });
        }
      }
      y += tile + 6 + Math.max(...row.map((t) => t.lines.length)) * LINE + GAP;
    }
  }
  const text =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}">${svg}</svg>`;
  const sheet = sharp({ create: { width, height: y, channels: 3, background: "#ffffff" } });
  return await sheet.composite([...layers, {
    input: Buffer.from(text),
    left: 0,
    top: 0,
  }])
    .png().toBuffer();
}

async function fit(image: Uint8Array, tile: number): Promise<Buffer> {
  const picture = sharp(image, { limitInputPixels: 2 ** 26 });
  const { width, height } = await picture.metadata();
  const whole = Math.floor(tile / Math.max(width, height));
  return await picture.removeAlpha().resize({
    ...(whole >= 1 && tile % Math.max(width, height) === 0
      ? { width: width * whole, height: height * whole, kernel: "nearest" }
      : { width: tile, height: tile, fit: "contain", background: "#ffffff" }),
  }).png().toBuffer();
}

/** At most two lines of whole words; what does not fit is cut. */
function wrap(text: string, width: number, size: number): string[] {
  const room = Math.floor(width / (CELL.width * size));
  const space = text.lastIndexOf(" ", room);
  if (text.length <= room || space <= 0) return [cut(text, width, size)];
  return [text.slice(0, space), cut(text.slice(space + 1), width, size)];
}

function cut(text: string, width: number, size: number): string {
  const room = Math.floor(width / (CELL.width * size));
  return text.length <= room ? text : `${text.slice(0, Math.max(room - 2, 0))}..`;
}
