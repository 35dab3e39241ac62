import { z } from "zod";
import { nearest } from "./nearest.ts";

/** One line about what is wrong with a value: where, what was found, what was expected. */
export interface Fault {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** A schema's issue in our words: zod's name what was expected, but not always what was found. */
export function describeIssue(
  issue: z.core.$ZodIssue,
  { value, schema }: { readonly value: unknown; readonly schema: z.ZodType },
): Fault[] {
  const { path } = issue;
  const found = show(valueAt(value, path));
  const fault = (message: string): Fault[] => [{ path, message }];
  switch (issue.code) {
    case "unrecognized_keys": {
      const known = fieldsAt(schema, path);
      return issue.keys.map((key) => {
        const near = nearest(key, known);
        const hint = near === undefined
          ? known.length > 0 ? `, expected one of ${known.join(", ")}` : ""
          : `, did you mean ${near}?`;
        return { path: [...path, key], message: `Unknown field${hint}` };
      });
    }
    case "invalid_type":
      return fault(
        found === undefined
          ? `Missing, expected ${aType(issue.expected)}`
          : `Found ${found}, expected ${aType(issue.expected)}`,
      );
    case "invalid_value":
      return fault(
        `${foundOrMissing(found)}, expected ${issue.values.map((v) => String(v)).join(" or ")}`,
      );
    case "too_small":
      return fault(
        `Found ${found}, expected ${issue.inclusive ? "at least" : "more than"} ${issue.minimum}${
          unit(issue.origin)
        }`,
      );
    case "too_big":
      return fault(
        `Found ${found}, expected ${issue.inclusive ? "at most" : "less than"} ${issue.maximum}${
          unit(issue.origin)
        }`,
      );
    case "invalid_format":
      return fault(`Found ${found}, expected ${issue.pattern ?? issue.format}`);
    default:
      return fault(issue.message);
  }
}

const foundOrMissing = (found: string | undefined) =>
  found === undefined ? "Missing" : `Found ${found}`;

const TYPES: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "text",
  boolean: "true or false",
  array: "a list",
  object: "fields",
  record: "fields",
};

function aType(name: string): string {
  return TYPES[name] ?? name;
}

function unit(origin: string): string {
  if (origin === "string") return " characters";
  return origin === "array" ? " entries" : "";
}

/** A value in a few words; undefined for one that is missing. */
function show(value: unknown): string | undefined {
  const text = JSON.stringify(value);
  return text === undefined || text.length <= 80 ? text : `${text.slice(0, 80)}…`;
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (v, key) => typeof v === "object" && v !== null ? Reflect.get(v, key) : undefined,
    value,
  );
}

/** Names of the fields an object in a schema may have; none where it is not known. */
function fieldsAt(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let node: unknown = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  for (const key of path) {
    node = typeof key === "number" ? field(node, "items") : field(field(node, "properties"), key);
  }
  return Object.keys(field(node, "properties") ?? {});
}

function field(node: unknown, key: PropertyKey): object | undefined {
  const value: unknown = typeof node === "object" && node !== null
    ? Reflect.get(node, key)
    : undefined;
  return typeof value === "object" && value !== null ? value : undefined;
}
