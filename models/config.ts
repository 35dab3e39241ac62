import { statSync } from "node:fs";
import { z } from "zod";
import { checkValue, InputError, shown } from "../base/mod.ts";

const MAX_BYTES = 4 << 20;

/** A model's configuration file that is missing, unreadable, or asks for what no builder here can do. */
export class ConfigError extends InputError {
  override readonly name = "ConfigError";

  constructor(
    /** The file at fault. */
    readonly path: string,
    /** What was found and what was expected, without a full stop. */
    detail: string,
    options?: ErrorOptions,
  ) {
    super(`Config ${path}: ${detail}`, options);
  }
}

/** Reads a JSON file of at most 4 MiB that holds an object. Throws `ConfigError` naming the file. */
export async function readJsonObject(path: string): Promise<Record<string, unknown>> {
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  if (size === undefined) throw new ConfigError(path, "does not exist");
  if (size > MAX_BYTES) {
    throw new ConfigError(path, `has ${size} bytes, expected at most ${MAX_BYTES}`);
  }
  let value: unknown;
  try {
    // Python writes infinities bare, which JSON does not know: they become strings.
    const text = await Deno.readTextFile(path);
    value = JSON.parse(text.replace(/:\s*(-?Infinity|NaN)\b/g, ': "$1"'));
  } catch (cause) {
    throw new ConfigError(path, "cannot be read as JSON", { cause });
  }
  const parsed = z.record(z.string(), z.unknown()).safeParse(value);
  if (!parsed.success) throw new ConfigError(path, `is ${shown(value)}, expected an object`);
  return parsed.data;
}

/** Where a configuration stands: its file, and its place there if it is not the whole. */
export interface ConfigPlace {
  readonly path: string;
  /** Names joined by dots, e.g. "text_config". */
  readonly within?: string;
}

/**
 * Checks a configuration against a strict schema whose messages say what each field was expected to be. Fields that
 * begin with an underscore (`_class_name`, `_diffusers_version`) are notes of the library that wrote the file.
 * Throws `ConfigError` naming file, field, what was found and what was expected; a field unknown to the schema is
 * an error too, since it may change what the model computes.
 */
export function parseConfig<S extends z.ZodType>(
  schema: S,
  value: Readonly<Record<string, unknown>>,
  place: string | ConfigPlace,
): z.output<S> {
  const { path, within } = typeof place === "string" ? { path: place } : place;
  const fields = Object.fromEntries(Object.entries(value).filter(([k]) => !k.startsWith("_")));
  const checked = checkValue(schema, fields);
  if (checked.fault === undefined) return checked.data;
  const { path: names, message } = checked.fault;
  const name = [...(within === undefined ? [] : [within]), ...names].join(".");
  throw new ConfigError(path, `"${name}" ${message}`);
}

/** Throws `ConfigError` where a part's `config.json` says that it is of another class than the one that is built. */
export function checkClass(
  value: Readonly<Record<string, unknown>>,
  { path, className }: { readonly path: string; readonly className: string },
): void {
  const found = value["_class_name"] ?? className;
  if (found === className) return;
  throw new ConfigError(path, `"_class_name" is ${shown(found)}, expected ${shown(className)}`);
}

/** One of these values and no other: what a builder supports of a field. */
export function only<const T extends string | number | boolean | null>(...values: readonly T[]) {
  return z.literal([...values], values.map((v) => JSON.stringify(v)).join(" or "));
}

/** A size or a count: a whole number above 0. */
export const count = (): z.ZodInt =>
  z.int("a whole number above 0").min(1, "a whole number above 0").max(
    2 ** 24,
    "at most 16777216",
  );

/** A finite number above 0. */
export const positive = (): z.ZodNumber => z.number("a number above 0").gt(0, "a number above 0");

/** Any of these fields, whatever they hold: they do not change what the model computes. */
export function inert<const K extends string>(
  ...names: readonly K[]
): Record<K, z.ZodOptional<z.ZodUnknown>>;
export function inert(...names: readonly string[]): Record<string, z.ZodOptional<z.ZodUnknown>> {
  return Object.fromEntries(names.map((name) => [name, z.unknown().optional()]));
}
