import { z } from "zod";
import { cut } from "./cut.ts";
import { nearest } from "./nearest.ts";

/** What is wrong with a part of a value. */
export interface Fault {
  /** Where it is: names of fields, indices of lists. */
  readonly path: readonly PropertyKey[];
  /** What follows its name: "is 3, expected 4 or more". */
  readonly message: string;
}

/** A value that fits its schema, or the first that is wrong with it, and all. */
export type Checked<T> =
  | { readonly data: T; readonly fault?: undefined }
  | { readonly fault: Fault; readonly faults: () => Iterable<Fault> };

/** Characters of a found value that a fault shows. */
const SHOWN = 100;

/**
 * Checks a value against a schema: the one place that puts faults into words. An `error` of a schema says what it
 * expects ("a whole number above 0"); a message of a refinement follows the field's name, and what was found stands
 * before one that begins with "expected".
 */
export function checkValue<S extends z.ZodType>(schema: S, value: unknown): Checked<z.output<S>> {
  const result = schema.safeParse(value, { error: expectation, reportInput: true });
  if (result.success) return { data: result.data };
  const faults = () => faultsOf(result.error.issues, { value, schema });
  // A stranger can make thousands of faults in a few kilobytes: what is not asked for is not put into words.
  const [fault = { path: [], message: "is wrong" }] = faults();
  return { fault, faults };
}

/** A value as it is written in a configuration, long ones cut. JSON has no NaN and no infinity. */
export function shown(value: unknown): string {
  const text = typeof value === "number" ? String(value) : JSON.stringify(value) ?? "missing";
  return cut(text, SHOWN);
}

function* faultsOf(
  issues: readonly z.core.$ZodIssue[],
  { value, schema }: { readonly value: unknown; readonly schema: z.ZodType },
): Generator<Fault> {
  let described: unknown;
  for (const issue of issues) {
    const { path, message } = issue;
    if (issue.code === "unrecognized_keys") {
      described ??= z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
      const known = fieldsAt(described, path);
      for (const key of issue.keys) {
        const near = nearest(key, known);
        const hint = near === undefined ? "" : `, did you mean ${near}?`;
        yield { path: [...path, key], message: `is not known here${hint}` };
      }
    } else if (issue.code !== "custom") {
      yield { path, message: `is ${shown(issue.input)}, expected ${message}` };
    } else {
      const isExpectation = message.startsWith("expected ");
      yield {
        path,
        message: isExpectation ? `is ${shown(valueAt(value, path))}, ${message}` : message,
      };
    }
  }
}

/** What a schema without words of its own expects. */
function expectation(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case "invalid_type":
      return TYPES[issue.expected] ?? issue.expected;
    case "invalid_value": {
      const [value, ...others] = issue.values;
      return others.length === 0 ? shown(value) : `one of ${issue.values.map(String).join(", ")}`;
    }
    case "too_small":
      if (issue.origin === "string" && issue.minimum === 1) return "text that is not empty";
      if (issue.origin in PARTS) return `at least ${issue.minimum} ${PARTS[issue.origin]}`;
      return issue.inclusive ? `${issue.minimum} or more` : `more than ${issue.minimum}`;
    case "too_big":
      if (issue.origin in PARTS) return `at most ${issue.maximum} ${PARTS[issue.origin]}`;
      return issue.inclusive ? `${issue.maximum} or less` : `less than ${issue.maximum}`;
    case "invalid_format":
      return issue.format === "regex" ? `text that matches ${issue.pattern}` : issue.format;
    case "invalid_union": {
      const expected = issue.errors.flatMap(([first]) => first?.message ?? []);
      return expected.length === 0 ? undefined : [...new Set(expected)].join(" or ");
    }
    case "not_multiple_of":
      return `a multiple of ${issue.divisor}`;
  }
}

const TYPES: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "text",
  boolean: "true or false",
  array: "a list",
  object: "fields",
  record: "fields",
};

/** What a value of a kind has more or less of. */
const PARTS: Readonly<Record<string, string>> = { string: "characters", array: "entries" };

/** The part of a value at a path; undefined where there is none. */
export function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (v, key) => typeof v === "object" && v !== null ? Reflect.get(v, key) : undefined,
    value,
  );
}

/** Names of the fields an object in a JSON schema may have; none where it is not known. */
function fieldsAt(schema: unknown, path: readonly PropertyKey[]): readonly string[] {
  let node = schema;
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
