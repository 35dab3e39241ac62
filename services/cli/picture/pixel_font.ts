/** Five columns of eight dots a glyph, lowest bit on top, for ASCII 32 to 126: ten hex digits each. */
const GLYPHS =
  "000000000000005F00000007000700147F147F14242A7F2A12231308646236495620500008070300001C224100" +
  "0041221C002A1C7F1C2A08083E080800807030000808080808000060600020100804023E5149453E00427F4000" +
  "72494949462141494D331814127F1027454545393C4A49493141211109073649494936464949291E0000140000" +
  "004034000000081422411414141414004122140802015909063E415D594E7C1211127C7F494949363E41414122" +
  "7F4141413E7F494949417F090909013E414151737F0808087F00417F41002040413F017F081422417F40404040" +
  "7F021C027F7F0408107F3E4141413E7F090909063E4151215E7F09192946264949493203017F01033F4040403F" +
  "1F2040201F3F4038403F631408146303047804036159494D43007F4141410204081020004141417F0402010204" +
  "4040404040000307080020545478407F284444383844444428384444287F385454541800087E090218A4A49C78" +
  "7F0804047800447D40002040403D007F1028440000417F40007C047804787C080404783844444438FC18242418" +
  "18242418FC7C08040408485454542404043F44243C4040207C1C2040201C3C4030403C44281028444C9090907C" +
  "4464544C440008364100000077000000413608000201020402";

/** Width of one character cell and height of a line, in dots. */
export const CELL = { width: 6, height: 10 } as const;

/**
 * Text as an SVG path of square dots, so that pictures look the same on machines without fonts. `size` is the side of
 * a dot; (x, y) the top left corner. Characters outside ASCII are drawn as "?".
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
  let d = "";
  for (const [i, ch] of [...text].entries()) {
    const code = ch.codePointAt(0) ?? 63;
    const glyph = code >= 32 && code <= 126 ? code - 32 : 63 - 32;
    for (let c = 0; c < 5; c++) {
      const bits = parseInt(GLYPHS.slice(glyph * 10 + c * 2, glyph * 10 + c * 2 + 2), 16);
      for (let r = 0; r < 8; r++) {
        if (((bits >> r) & 1) === 0) continue;
        d += `M${x + (i * CELL.width + c) * size} ${y + r * size}h${size}v${size}h-${size}z`;
      }
    }
  }
  return `<path fill="${fill}" d="${d}"/>`;
}

/** Width of a text in the units of `size`. */
export function textWidth(text: string, size: number): number {
  return [...text].length * CELL.width * size;
}
