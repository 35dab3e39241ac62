import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { readFile } from "node:fs/promises";
import { LineCounter, parseDocument } from "yaml";
import { type RunConfig, RunConfigSchema } from "../../../proto/mod.ts";
import { UsageError } from "../command.ts";

/**
 * Reads a run's configuration from YAML or JSON: the fields of `drtune.trainer.v1.RunConfig` in camelCase or
 * snake_case. Throws `UsageError` naming file, line and field.
 */
export async function readRunConfig(path: string): Promise<RunConfig> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new UsageError(`Cannot read ${path}: ${error instanceof Error ? error.message : error}`);
  }
  return parseRunConfig(text, path);
}

/** `readRunConfig` of a text; `path` is for messages. */
export function parseRunConfig(text: string, path: string): RunConfig {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [error] = document.errors;
  if (error !== undefined) {
    throw new UsageError(`${path}:${lines.linePos(error.pos[0]).line}: ${error.message}`);
  }
  const value: unknown = document.toJS();
  if (!isJson(value) || value === null || typeof value !== "object") {
    throw new UsageError(
      `${path}: found ${value === null ? "nothing" : typeof value}, expected fields of a run`,
    );
  }
  try {
    return fromJson(RunConfigSchema, value);
  } catch (cause) {
    // "cannot decode field drtune.trainer.v1.LoraConfig.rank from JSON: expected number (int32), got \"x\""
    const reason = cause instanceof Error ? cause.message : String(cause);
    const field = /([A-Za-z]+)\.([a-z0-9_]+) from JSON|key "([^"]+)"/.exec(reason);
    const name = field?.[2] ?? field?.[3];
    const line = name === undefined ? undefined : lineOf(text, name);
    throw new UsageError(
      `${path}${line === undefined ? "" : `:${line}`}: ${
        reason.replaceAll("drtune.trainer.v1.", "")
      }`,
    );
  }
}

/** First line whose key is `name`, in snake_case or camelCase. */
function lineOf(text: string, name: string): number | undefined {
  const camel = name.replaceAll(/_([a-z])/g, (_, ch: string) => ch.toUpperCase());
  const at = text.split("\n").findIndex((l) => {
    const key = /^[\s-]*"?([A-Za-z0-9_]+)"?\s*:/.exec(l)?.[1];
    return key === name || key === camel;
  });
  return at < 0 ? undefined : at + 1;
}

function isJson(value: unknown): value is JsonValue {
  switch (typeof value) {
    case "string":
    case "number":
    case "boolean":
      return true;
    case "object":
      return value === null || Object.values(value).every(isJson);
    default:
      return false;
  }
}
