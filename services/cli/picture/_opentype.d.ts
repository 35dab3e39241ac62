/** What is used of opentype.js, which brings no types. */
export interface Glyph {
  /** 0: the font has none for the character. */
  readonly index: number;
  /** In the font's units. */
  readonly advanceWidth: number;
  /** The outline with its baseline at (x, y), `size` units high. */
  getPath(x: number, y: number, size: number): { toPathData(decimals: number): string };
}

/** A font's file, read. */
export interface Font {
  readonly unitsPerEm: number;
  /** Above the baseline, in the font's units. */
  readonly ascender: number;
  charToGlyph(character: string): Glyph;
}

declare const opentype: {
  /** Throws an `Error` where the file cannot be read. */
  parse(file: ArrayBuffer): Font;
};
export default opentype;
