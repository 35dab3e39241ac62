import { endOfString } from "./json_parts.ts";

/** What is or might be a token of JSON, or white space, or begins a string: the whole of one would take a stack as long. */
const TOKEN = /[ \t\n\r]+|[{}[\]:,"]|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

/** Where a text stops being JSON. */
export interface JsonFault {
  /** From 1. */
  readonly line: number;
  /** From 1, in UTF-16 units. */
  readonly column: number;
  /** What stands there; "" for the end of the text. */
  readonly found: string;
}

/** Finds where a text that `JSON.parse` refuses stops being JSON: the engine's message does not always say. */
export function jsonFault(text: string): JsonFault {
  const starts: number[] = [];
  TOKEN.lastIndex = 0;
  let end = 0;
  while (TOKEN.test(text)) {
    if (text[end] === '"') {
      const close = endOfString(text, end);
      if (close === text.length) break;
      TOKEN.lastIndex = close + 1;
    }
    starts.push(end);
    end = TOKEN.lastIndex;
  }
  // All up to there are tokens; the first that stands where it must not is found by halving.
  let [low, high] = [0, starts.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (mayGoOn(text.slice(0, starts[middle + 1] ?? end))) low = middle + 1;
    else high = middle;
  }
  const at = starts[low] ?? end;
  const before = text.slice(0, at).split("\n");
  return {
    line: before.length,
    column: (before.at(-1)?.length ?? 0) + 1,
    found: /^(?:"[^"\n]*"?|\w+|[^]?)/.exec(text.slice(at, at + 40))?.[0] ?? "",
  };
}

/** Whether whole tokens are JSON, or would be with others behind them. */
function mayGoOn(tokens: string): boolean {
  try {
    JSON.parse(tokens);
    return true;
  } catch (error) {
    const message = error instanceof Error ? error.message : "";
    return message.startsWith("Unexpected end") ||
      message.includes(`at position ${tokens.length} `);
  }
}
