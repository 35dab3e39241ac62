import type { z } from "zod";
import { checkValue } from "../base/mod.ts";
import { FieldError } from "./errors.ts";

/** Checks `value` against a schema. Throws a `FieldError` for the first fault. `file` is named in it. */
export function parseConfig<S extends z.ZodType>(
  schema: S,
  value: unknown,
  { file }: { readonly file?: string } = {},
): z.output<S> {
  const checked = checkValue(schema, value);
  if (checked.fault === undefined) return checked.data;
  const { path, message } = checked.fault;
  throw new FieldError(path.join(".") || "(all)", message, file === undefined ? {} : { file });
}
