import type { JsonValue } from "@bufbuild/protobuf";
import { type Document, isScalar, LineCounter, parseDocument, visit, type YAMLMap } from "yaml";
import { HttpError } from "./http_error.ts";
import { tooManyContainers } from "./json_parts.ts";

/** The YAML parser's time may grow with the square of what it reads: a megabyte can be made to take 20 s. */
export const MAX_YAML = 2 ** 16;

/** Line ends, commas and brackets: the parser holds a hundred times the memory of a text that has hardly anything else. */
const MAX_MARKS = 10_000;

/** A few lines of aliases may stand for gigabytes, and the parser looks through the whole text for each. */
export const MAX_ALIASES = 100;

/** Parses YAML that a stranger wrote. Throws `HttpError` with the line that is wrong. */
export function readYaml(
  text: string,
): { readonly document: Document; readonly value: JsonValue } {
  if (text.length > MAX_YAML) {
    const message =
      `Body is YAML of ${text.length} characters, expected at most ${MAX_YAML}, or JSON`;
    throw new HttpError("RESOURCE_EXHAUSTED", message, { status: 413 });
  }
  const marks = text.match(/[\n,[\]{}]/g)?.length ?? 0;
  if (marks > MAX_MARKS) {
    const message =
      `Body has ${marks} line ends, commas and brackets, expected at most ${MAX_MARKS}`;
    throw new HttpError("INVALID_ARGUMENT", message);
  }
  const lines = new LineCounter();
  // The parser compares each key of a map with all before it.
  const options = { lineCounter: lines, prettyErrors: false, uniqueKeys: false };
  const document = withoutStacks(() => parseDocument(text, options));
  const wrong = (position: number, reason: string) => {
    const { line } = lines.linePos(position);
    return new HttpError("INVALID_ARGUMENT", `Line ${line}: ${reason}`, { line });
  };
  const [error] = document.errors;
  if (error !== undefined) {
    // The parser walks by recursion too.
    const reason = /call stack/.test(error.message) ? "Nested too deep" : error.message;
    throw wrong(error.pos[0], reason);
  }
  try {
    let aliases = 0;
    visit(document, {
      Alias: (_, { range }) => {
        if (++aliases <= MAX_ALIASES) return;
        throw wrong(range?.[0] ?? 0, `More than ${MAX_ALIASES} aliases`);
      },
      Map: (_, map) => {
        const twice = keyTwice(map);
        if (twice !== undefined) throw wrong(twice, "Map keys must be unique");
      },
    });
    const value: JsonValue = document.toJS({ maxAliasCount: MAX_ALIASES });
    const many = tooManyContainers(value);
    if (many !== undefined) throw new HttpError("INVALID_ARGUMENT", `Body ${many}`);
    return { document, value };
  } catch (cause) {
    if (cause instanceof HttpError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new HttpError("INVALID_ARGUMENT", `Body cannot be read: ${reason}`, { cause });
  }
}

/** Where a key stands that its map has already. */
function keyTwice({ items }: YAMLMap): number | undefined {
  const known = new Set<unknown>();
  for (const { key } of items) {
    if (!isScalar(key)) continue;
    if (known.has(key.value)) return key.range?.[0] ?? 0;
    known.add(key.value);
  }
  return undefined;
}

/** Its errors have no stacks: there may be one for each character. */
function withoutStacks<T>(parse: () => T): T {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    return parse();
  } finally {
    Error.stackTraceLimit = limit;
  }
}
