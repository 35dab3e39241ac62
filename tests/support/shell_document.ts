/** A block of a document: commands of a shell, what they print, or a program. */
export interface DocumentBlock {
  readonly language: "sh" | "text" | "python";
  readonly text: string;
}

/** The blocks of commands, outputs and programs of a document, in their order. */
export function documentBlocks(markdown: string): readonly DocumentBlock[] {
  return [...markdown.matchAll(/^```(sh|text|python)\n(.*?)^```$/gms)].map((
    [, language, text],
  ) => ({
    language: language === "sh" || language === "text" ? language : "python",
    text: text ?? "",
  }));
}

/**
 * What a line of a document's output matches: any number and unit for a number, anything for "…". So an output with the
 * figures of true sizes is one of tiny stand-ins, too.
 */
export function outputPattern(line: string): RegExp {
  const source = line.trim().split("…").map((part) =>
    part.split(/(\d[\d.,e+-]*(?: (?:[KMG]i?B|min|ms|s|h|d)\b)*)/).map((piece, i) =>
      i % 2 === 1 ? "[\\d.,e+-]+(?: ?(?:[KMG]i?B|min|ms|s|h|d))?" : spaced(piece)
    ).join("")
  ).join(".*");
  return new RegExp(source);
}

/** Columns may be wider or narrower. */
function spaced(text: string): string {
  return text.split(/ +/).map((word) => RegExp.escape(word)).join("\\s*");
}
