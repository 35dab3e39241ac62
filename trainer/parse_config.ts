import type { z } from "zod";
import { FieldError } from "./errors.ts";

/** Checks `value` against a schema. Throws a `FieldError` for the first fault. `file` is named in it. */
export function parseConfig<S extends z.ZodType>(
  schema: S,
  value: unknown,
  { file }: { readonly file?: string } = {},
): z.output<S> {
  const result = schema.safeParse(value, { reportInput: true });
  if (result.success) return result.data;
  const options = file === undefined ? {} : { file };
  const [issue] = result.error.issues;
  const path = issue?.path.map(String) ?? [];
  if (issue?.code === "unrecognized_keys") {
    throw new FieldError([...path, issue.keys[0]].join("."), "is not known here", options);
  }
  const expected = issue?.message.replace(/^[^:]*: expected/, "expected") ?? "";
  const found = issue?.input === undefined ? "missing" : shown(issue.input);
  throw new FieldError(path.join(".") || "(all)", `is ${found}, ${expected}`, options);
}

/** A value as it is written in a configuration, long ones cut. JSON has no NaN and no infinity. */
function shown(value: unknown): string {
  const text = typeof value === "number" ? String(value) : JSON.stringify(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}

const SHOWN = 100;
