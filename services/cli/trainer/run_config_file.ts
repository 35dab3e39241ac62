import { readFile, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { create, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { parse } from "yaml";
import { decodeLines, InputError } from "../../../base/mod.ts";
import {
  type PromptSource,
  PromptSourceSchema,
  type RunConfig,
  RunConfigSchema,
} from "../../../proto/mod.ts";
import { ConfigError, fieldPosition, parseConfigText, readText } from "../../launch/mod.ts";
import { MessageSchemas } from "../../rpc/mod.ts";
import { UsageError } from "../command.ts";

/**
 * Reads a run's configuration from YAML or JSON: the fields of `drtune.trainer.v1.RunConfig` in camelCase or
 * snake_case. A prompt file that lies there relative to the configuration's own folder is read here and becomes a list;
 * of any other the trainer's folder of models is to have it. Throws `UsageError` with a line for each fault: file, line,
 * field, found, expected.
 */
export async function readRunConfig(path: string): Promise<RunConfig> {
  try {
    const config = parseRunConfig(await readText(path), path);
    for (const field of ["prompts", "heldOutPrompts"] as const) {
      const source = config[field]?.source;
      if (source?.case !== "file") continue;
      const list = await promptsBeside(path, { field, file: source.value });
      if (list !== undefined) config[field] = list;
    }
    return config;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/** The prompts of a file beside the configuration; undefined where there is none. Throws `ConfigError`. */
async function promptsBeside(
  path: string,
  { field, file }: { readonly field: string; readonly file: string },
): Promise<PromptSource | undefined> {
  const beside = resolve(dirname(path), file);
  if (!await stat(beside).then((s) => s.isFile(), () => false)) return undefined;
  const where = await fieldPosition(path, [field, "file"]);
  let prompts: readonly string[];
  try {
    prompts = decodeLines(await readFile(beside), beside);
  } catch (cause) {
    const reason = cause instanceof InputError ? cause.message : `${beside} cannot be read`;
    throw new ConfigError(`${where}: ${field}.file: ${reason}`, { cause });
  }
  if (prompts.length === 0) {
    throw new ConfigError(
      `${where}: ${field}.file: ${beside} holds no prompt, expected one a line`,
    );
  }
  return create(PromptSourceSchema, { source: { case: "list", value: { prompts: [...prompts] } } });
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
