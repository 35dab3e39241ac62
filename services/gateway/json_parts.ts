/** No request of ours has a tenth as many. */
const MAX_CONTAINERS = 2000;
/** Elements and fields, over all of them: prompts of a run are the most that anybody sends. */
const MAX_ELEMENTS = 200_000;
/** No message of ours is a quarter as deep; what is walked by recursion must end before the stack does. */
export const MAX_DEPTH = 100;

/** What is too much in a JSON text for it to be read, in words; undefined for one that may be. Parses nothing. */
export function tooManyParts(text: string): string | undefined {
  let [containers, elements, depth] = [0, 0, 0];
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        at = endOfString(text, at);
        break;
      case BRACKET:
      case BRACE:
        if (++depth > MAX_DEPTH) return `is nested more than ${MAX_DEPTH} deep`;
        if (++containers > MAX_CONTAINERS) return CONTAINERS;
        break;
      case BRACKET_END:
      case BRACE_END:
        depth--;
        break;
      case COMMA:
        if (++elements > MAX_ELEMENTS) return `has more than ${MAX_ELEMENTS} elements`;
    }
  }
  return undefined;
}

/** The same of a value that has been read. */
export function tooManyContainers(value: unknown): string | undefined {
  let containers = 0;
  const walk = (inner: unknown): boolean => {
    if (typeof inner !== "object" || inner === null) return false;
    return ++containers > MAX_CONTAINERS || Object.values(inner).some(walk);
  };
  return walk(value) ? CONTAINERS : undefined;
}

const CONTAINERS = `has more than ${MAX_CONTAINERS} lists and objects`;

const [QUOTE, COMMA, BRACKET, BRACKET_END, BRACE, BRACE_END] = [34, 44, 91, 93, 123, 125];

/** Where a string ends that begins here: at its closing quote, or with the text. */
export function endOfString(text: string, start: number): number {
  for (let end = start;;) {
    end = text.indexOf('"', end + 1);
    if (end < 0) return text.length;
    let first = end;
    while (text.charAt(first - 1) === "\\") first--;
    if ((end - first) % 2 === 0) return end;
  }
}
