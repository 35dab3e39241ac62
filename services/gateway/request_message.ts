import {
  type DescField,
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type MessageShape,
  ScalarType,
} from "@bufbuild/protobuf";
import { LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import { checkValue, cut, type Fault } from "../../base/mod.ts";
import { HttpError } from "./http_error.ts";
import { jsonFault } from "./json_fault.ts";
import { MAX_DEPTH, tooManyParts } from "./json_parts.ts";
import { MAX_YAML, readYaml } from "./read_yaml.ts";
import type { MessageSchemas } from "../rpc/mod.ts";

/** Characters of a stranger's name that a fault shows, so that what is wrong with it is shown, too. */
const MAX_NAME = 200;

/** In a longer text nobody looks for the place that is wrong, which takes seconds and as much memory again. */
const MAX_FAULT = 2 ** 20;

/** Media types a message may be sent in. */
export const MESSAGE_TYPES = ["application/json", "application/yaml"] as const;

/** The media type of a body, "" where none is said. Throws `HttpError` 415 where it is not in UTF-8. */
export function mediaType({ headers }: Request): string {
  const [type = "", ...parameters] = (headers.get("content-type") ?? "").toLowerCase().split(";");
  const charset = parameters.map((text) => /^\s*charset="?([^"\s]*)/.exec(text)?.[1])
    .find((found) => found !== undefined);
  if (charset !== undefined && charset !== "utf-8" && charset !== "utf8") {
    throw new HttpError(
      "INVALID_ARGUMENT",
      `Charset is ${cut(charset, MAX_NAME)}, expected utf-8`,
      {
        status: 415,
      },
    );
  }
  return type.trim();
}

/** Parses an object in JSON or YAML. Throws `HttpError`. */
export function parseBody(text: string, type: string): JsonObject {
  const value = type === "application/json"
    ? parseJson(text)
    : /^(?:application|text)\/(?:x-)?yaml$/.test(type)
    ? readYaml(text).value
    : refuseType(type, MESSAGE_TYPES);
  return objectOf(value);
}

/** Throws `HttpError` where a value is another than an object. */
export function objectOf(value: JsonValue): JsonObject {
  if (isObject(value)) return value;
  throw new HttpError("INVALID_ARGUMENT", `Body is ${kindOf(value)}, expected an object`);
}

/** A body, and what it is to become. */
export interface BodyText {
  readonly text: string;
  /** Its media type. */
  readonly type: string;
  /** Fields that the path says. */
  readonly params?: Readonly<Record<string, string>>;
}

/** The message that a body says; an empty body says nothing. Throws `HttpError`. */
export function messageOf<D extends DescMessage>(
  descriptor: D,
  { text, type, params = {} }: BodyText,
  schemas: MessageSchemas,
): MessageShape<D> {
  const value = camelCased(text.trim() === "" ? {} : parseBody(text, type), descriptor);
  return requestMessage(descriptor, value, { schemas, params, text });
}

/**
 * Makes a message of what a request says. Throws `HttpError` with the whole path of the first field that is wrong, what
 * was found and what was expected.
 */
export function requestMessage<D extends DescMessage>(
  descriptor: D,
  value: JsonObject,
  { schemas, params = {}, text }: {
    readonly schemas: MessageSchemas;
    /** Fields that the path says. */
    readonly params?: Readonly<Record<string, string>>;
    /** The body as it was sent. */
    readonly text?: string;
  },
): MessageShape<D> {
  const schema = schemas.message(descriptor, { without: Object.keys(params) });
  const checked = checkValue(schema, value);
  if (checked.fault !== undefined) throw fieldError(checked.fault, text);
  try {
    return fromJson(descriptor, { ...value, ...params });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new HttpError("INVALID_ARGUMENT", `Body: ${reason}`, { cause });
  }
}

/** Checks what a query or path says against a schema of the gateway's own. */
export function checked<T>(schema: z.ZodType<T>, value: unknown): T {
  const found = checkValue(schema, value);
  if (found.fault === undefined) return found.data;
  throw fieldError(found.fault);
}

/** The JSON form of a message's fields in a query; repeated fields may be given more than once. */
export function queryValue(descriptor: DescMessage, query: URLSearchParams): JsonObject {
  const value: Record<string, JsonValue> = {};
  for (const name of new Set(query.keys())) {
    const field = descriptor.fields.find(({ jsonName }) => jsonName === name);
    if (field === undefined) throw unknownField(name, descriptor.fields.map((f) => f.jsonName));
    const texts = query.getAll(name);
    if (field.fieldKind === "list") value[name] = texts.map((text) => fieldValue(field, text));
    else if (texts.length === 1) value[name] = fieldValue(field, texts[0] ?? "");
    else {
      throw new HttpError("INVALID_ARGUMENT", `Field ${name} is given ${texts.length} times`, {
        field: name,
      });
    }
  }
  return value;
}

function fieldValue(field: DescField, text: string): JsonValue {
  if (field.scalar === undefined || field.scalar === ScalarType.STRING) return text;
  if (field.scalar === ScalarType.BOOL) return text === "true" || (text !== "false" && text);
  // What is no number stays text, for the error to show.
  return text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text);
}

function fieldError({ path, message }: Fault, text?: string): HttpError {
  const names = path.map(String);
  const field = cut(names.join("."), MAX_NAME);
  const line = text === undefined ? undefined : lineOf(text, names);
  return new HttpError("INVALID_ARGUMENT", `Field ${field || "(all)"} ${message}`, {
    ...(field && { field }),
    ...(line !== undefined && { line }),
  });
}

function unknownField(name: string, known: readonly string[]): HttpError {
  const field = cut(name, MAX_NAME);
  const message = `Field ${field} is not known here, expected one of ${known.join(", ")}`;
  return new HttpError("INVALID_ARGUMENT", message, { field });
}

function parseJson(text: string): JsonValue {
  // Each part is checked, which takes its time: there must not be too many.
  const many = tooManyParts(text);
  if (many !== undefined) throw new HttpError("INVALID_ARGUMENT", `Body ${many}`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    if (text.length > MAX_FAULT) {
      throw new HttpError("INVALID_ARGUMENT", "Body is not JSON", { cause });
    }
    const { line, column, found } = jsonFault(text);
    const what = found === "" ? "it ends there" : `found ${found}`;
    throw new HttpError(
      "INVALID_ARGUMENT",
      `Line ${line}, column ${column}: Body is not JSON, ${what}`,
      { cause, line },
    );
  }
}

/** Throws `HttpError` 415. */
export function refuseType(type: string, expected: readonly string[]): never {
  const found = type === "" ? "missing" : cut(type, MAX_NAME);
  throw new HttpError(
    "INVALID_ARGUMENT",
    `Content-Type is ${found}, expected ${expected.join(" or ")}`,
    { status: 415 },
  );
}

/** The line of the value under these keys, or of the nearest one around it. JSON is YAML too. */
function lineOf(text: string, keys: readonly string[]): number | undefined {
  if (text.length > MAX_YAML) return undefined;
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: false,
  });
  for (let depth = keys.length; depth > 0; depth--) {
    for (const path of [keys.slice(0, depth), keys.slice(0, depth).map(snakeCase)]) {
      const node: unknown = document.getIn(path, true);
      if (hasRange(node)) return lines.linePos(node.range[0]).line;
    }
  }
  return undefined;
}

function hasRange(node: unknown): node is { readonly range: readonly [number, number, number] } {
  return typeof node === "object" && node !== null && "range" in node && Array.isArray(node.range);
}

/** A name in camelCase as the `.proto` files have it. */
export const snakeCase = (name: string) =>
  name.replaceAll(/[A-Z]/g, (ch) => `_${ch.toLowerCase()}`);

/**
 * A message's JSON with its fields' names in camelCase, as they may also be in snake_case. Keys of maps are no names: they
 * stay. Throws `HttpError` where it is nested too deep.
 *
 * @param descriptor of the message; undefined inside of a field that it does not know
 */
export function camelCased(
  value: JsonObject,
  descriptor: DescMessage | undefined,
  depth = 0,
): JsonObject {
  if (depth > MAX_DEPTH) {
    throw new HttpError("INVALID_ARGUMENT", `Body is nested more than ${MAX_DEPTH} deep`);
  }
  return Object.fromEntries(
    Object.entries(value).map(([written, inner]) => {
      const name = written.replaceAll(/(?<=[a-z0-9])_([a-z0-9])/g, (_, ch) => ch.toUpperCase());
      const field = descriptor?.fields.find(({ jsonName }) => jsonName === name);
      return [
        name,
        field?.fieldKind === "map" ? inner : camelCasedInside(inner, field?.message, depth),
      ];
    }),
  );
}

function camelCasedInside(
  value: JsonValue,
  descriptor: DescMessage | undefined,
  depth: number,
): JsonValue {
  if (isObject(value)) return camelCased(value, descriptor, depth + 1);
  return Array.isArray(value)
    ? value.map((inner) => camelCasedInside(inner, descriptor, depth + 1))
    : value;
}

function isObject(value: JsonValue): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kindOf(value: JsonValue): string {
  return value === null ? "null" : Array.isArray(value) ? "a list" : `a ${typeof value}`;
}
