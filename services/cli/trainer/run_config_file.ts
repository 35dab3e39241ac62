import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { parse } from "yaml";
import { type RunConfig, RunConfigSchema } from "../../../proto/mod.ts";
import { ConfigError, parseConfigText, readText } from "../../launch/mod.ts";
import { MessageSchemas } from "../../rpc/mod.ts";
import { UsageError } from "../command.ts";

/**
 * Reads a run's configuration from YAML or JSON: the fields of `drtune.trainer.v1.RunConfig` in camelCase or
 * snake_case. Throws `UsageError` with a line for each fault: file, line, field, found, expected.
 */
export async function readRunConfig(path: string): Promise<RunConfig> {
  try {
    return parseRunConfig(await readText(path), path);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/** `readRunConfig` of a text; `path` is for messages. Throws `ConfigError`. */
export function parseRunConfig(text: string, path: string): RunConfig {
  const schema = new MessageSchemas(new Map(), { protoNames: true }).message(RunConfigSchema);
  parseConfigText(text, schema, { path });
  const value: JsonValue = parse(text);
  try {
    return fromJson(RunConfigSchema, value);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError(`${path}: ${reason.replaceAll("drtune.trainer.v1.", "")}`, { cause });
  }
}
