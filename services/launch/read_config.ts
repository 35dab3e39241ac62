import { isMap, isNode, isScalar, LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import { checkValue, InputError } from "../../base/mod.ts";

/** A configuration file that cannot be used; the message has one line for each fault: file, line, field, what is wrong. */
export class ConfigError extends InputError {
  override readonly name = "ConfigError";
}

/**
 * Reads a YAML or JSON file and checks it. Throws `ConfigError`.
 *
 * @param path the file; undefined where everything is in `overrides`
 * @param overrides top-level values that replace the file's, as from a command line
 */
export async function readConfig<T>(
  path: string | undefined,
  schema: z.ZodType<T>,
  overrides: Readonly<Record<string, unknown>> = {},
): Promise<T> {
  const text = path === undefined ? "{}" : await readText(path);
  return parseConfigText(text, schema, { path, overrides });
}

/** `readConfig` of a text; `path` is for messages. */
export function parseConfigText<T>(
  text: string,
  schema: z.ZodType<T>,
  { path, overrides = {} }: {
    readonly path: string | undefined;
    readonly overrides?: Readonly<Record<string, unknown>>;
  },
): T {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const at = (offset: number) =>
    path === undefined ? "command line" : `${path}:${lineCounter.linePos(offset).line}`;
  if (document.errors.length > 0) {
    throw new ConfigError(
      document.errors.map(({ pos: [offset], message }) => `${at(offset)}: ${message}`).join("\n"),
    );
  }
  const read: unknown = document.toJS({ maxAliasCount: 100 });
  const value: unknown = isRecord(read) ? { ...read, ...overrides } : read;
  const checked = checkValue(schema, value);
  if (checked.fault === undefined) return checked.data;
  throw new ConfigError(
    [...checked.faults()].map(({ path: keys, message }) =>
      `${at(offsetOf(document, keys))}: ${keys.join(".") || "file"} ${message}`
    ).join("\n"),
  );
}

/** "file:line" of a field in a YAML or JSON file, or of the nearest one around it. */
export async function fieldPosition(path: string, keys: readonly PropertyKey[]): Promise<string> {
  const lineCounter = new LineCounter();
  const document = parseDocument(await readText(path), { lineCounter });
  return `${path}:${lineCounter.linePos(offsetOf(document, keys)).line}`;
}

/** A file's text. Throws `ConfigError` where it cannot be read. */
export async function readText(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (cause) {
    const reason = cause instanceof Deno.errors.NotFound
      ? "does not exist"
      : `cannot be read: ${cause instanceof Error ? cause.message : cause}`;
    throw new ConfigError(`${path}: ${reason}`, { cause });
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Where the entry under these keys begins, or the nearest one around it that is there. */
function offsetOf(
  document: ReturnType<typeof parseDocument>,
  keys: readonly PropertyKey[],
): number {
  for (let depth = keys.length; depth > 0; depth--) {
    const parent: unknown = document.getIn(keys.slice(0, depth - 1), true);
    const last = String(keys[depth - 1]);
    const key = isMap(parent)
      ? parent.items.map((pair) => pair.key).find((k) => isScalar(k) && String(k.value) === last)
      : document.getIn(keys.slice(0, depth), true);
    if (isNode(key) && key.range) return key.range[0];
  }
  return 0;
}
