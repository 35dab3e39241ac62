import type { MessageShape } from "@bufbuild/protobuf";
import { z } from "zod";
import { RunConfigSchema } from "../../proto/mod.ts";
import type { MessageSchemas } from "../rpc/mod.ts";
import { editYaml, type FieldChange } from "./edit_yaml.ts";
import { HttpError } from "./http_error.ts";
import { MAX_YAML, readYaml } from "./read_yaml.ts";
import {
  type BodyText,
  camelCased,
  checked,
  messageOf,
  objectOf,
  parseBody,
  requestMessage,
} from "./request_message.ts";

/** No field of a configuration is a quarter as deep. */
const MAX_PATH = 20;

/** A text and what is to change in it. */
export const CONFIG_EDIT = z.strictObject({
  yaml: z.string().default(""),
  changes: z.array(z.strictObject({
    path: z.array(z.union([z.string().min(1), z.int().min(0)])).min(1).max(MAX_PATH),
    value: z.unknown(),
  })).default([]),
});

/** Largest body that asks for it, in bytes: the longest text, what escapes it, and changes. */
export const MAX_EDIT_BYTES = 2 ** 18;

/** A configuration with fields changed. */
export interface EditedConfig {
  readonly yaml: string;
  readonly config: MessageShape<typeof RunConfigSchema>;
}

/** Changes fields in the YAML of a run's configuration. Throws `HttpError`: all faults are the caller's. */
export function editConfig({ text, type }: BodyText, schemas: MessageSchemas): EditedConfig {
  const { yaml: written, changes } = checked(CONFIG_EDIT, parseBody(text, type));
  // What was read of the old text is not held any more while the new one is read.
  const yaml = editedText(written, { changes, schemas });
  const config = messageOf(RunConfigSchema, { text: yaml, type: "application/yaml" }, schemas);
  return { yaml, config };
}

function editedText(
  text: string,
  { changes, schemas }: {
    readonly changes: readonly FieldChange[];
    readonly schemas: MessageSchemas;
  },
): string {
  const { document, value } = readYaml(text);
  // What cannot be read is refused with its line before it is changed.
  const written = camelCased(text.trim() === "" ? {} : objectOf(value), RunConfigSchema);
  requestMessage(RunConfigSchema, written, { schemas, text });
  const edited = tried(() => editYaml(document, changes));
  if (edited.length > MAX_YAML) {
    const message =
      `Field changes makes a text of ${edited.length} characters, expected at most ${MAX_YAML}`;
    throw new HttpError("INVALID_ARGUMENT", message, { field: "changes" });
  }
  return edited;
}

function tried(edit: () => string): string {
  try {
    return edit();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `Field changes cannot be made in this text: ${reason}`;
    throw new HttpError("INVALID_ARGUMENT", message, { cause, field: "changes" });
  }
}
