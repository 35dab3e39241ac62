import { Buffer } from "node:buffer";
import sharp, { type OverlayOptions } from "sharp";
import { cutText, LINE, textPath, textWidth } from "./text_path.ts";

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

const GAP = 12;
/** Sizes of the text under pictures and of headings, in pixels. */
const [SIZE, HEADING_SIZE] = [13, 18];
const HEADING = Math.ceil(HEADING_SIZE * LINE) + 6;

/**
 * A PNG of pictures with text under them. Pictures are scaled to `tile` pixels on their longer side (small ones by
 * whole pixels, so that they stay sharp). Texts take at most two lines; what does not fit is cut with "…".
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
      svg += textPath(cutText(heading, { width: width - 2 * GAP, size: HEADING_SIZE }), {
        x: GAP,
        y,
        size: HEADING_SIZE,
        fill: "#1f2430",
      });
      y += HEADING;
    }
    const wrapped = tiles.map((t) => ({ ...t, lines: t.lines.flatMap((l) => wrap(l, tile)) }));
    for (let start = 0; start < tiles.length; start += columns) {
      const row = wrapped.slice(start, start + columns);
      for (const [i, { image, lines }] of row.entries()) {
        const x = GAP + i * (tile + GAP);
        layers.push({ input: await fit(image, tile), left: x, top: y });
        for (const [n, line] of lines.entries()) {
          svg += textPath(line, {
            x,
            y: y + tile + 6 + n * SIZE * LINE,
            size: SIZE,
            fill: "#3c4352",
          });
        }
      }
      y += tile + 6 + Math.ceil(Math.max(...row.map((t) => t.lines.length)) * SIZE * LINE) + GAP;
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
function wrap(text: string, width: number): string[] {
  if (textWidth(text, SIZE) <= width) return [text];
  const words = text.split(" ");
  let count = words.length - 1;
  while (count > 0 && textWidth(words.slice(0, count).join(" "), SIZE) > width) count--;
  const rest = words.slice(count).join(" ");
  const first = words.slice(0, count).join(" ");
  return [...count > 0 ? [first] : [], cutText(rest, { width, size: SIZE })];
}
