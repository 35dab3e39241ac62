import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { type Document, isScalar, isSeq, parse, parseDocument } from "yaml";
import { RunConfigSchema } from "../../proto/mod.ts";
import type { Logger } from "../../base/mod.ts";
import { messageJson } from "./rpc_routes.ts";

/** A configuration to start from. */
export interface Preset {
  /** The file's name without ".yaml". */
  readonly name: string;
  /** The comment it begins with. */
  readonly description: string;
  /** A RunConfig in YAML. Rewards that the gateway knows by name have its addresses. */
  readonly yaml: string;
  /** The same in JSON. */
  readonly config: JsonValue;
}

/**
 * Reads the run configurations in a folder, by name. Other YAML files are passed over, as are files that cannot be read,
 * which are logged.
 *
 * @param addresses addresses of reward servers by name
 */
export async function readPresets(
  folder: URL,
  { addresses, log }: { readonly addresses: ReadonlyMap<string, string>; readonly log: Logger },
): Promise<Preset[]> {
  const presets: Preset[] = [];
  for await (const { name, isFile } of Deno.readDir(folder)) {
    if (!isFile || !name.endsWith(".yaml")) continue;
    try {
      const text = await Deno.readTextFile(new URL(name, folder));
      const document = parseDocument(text);
      const yaml = withAddresses(text, document, addresses);
      const [comment = ""] = /^(?:#.*\n)*/.exec(text) ?? [];
      presets.push({
        name: name.slice(0, -".yaml".length),
        description: comment.replaceAll(/^# ?/gm, "").replaceAll("\n", " ").trim(),
        yaml,
        config: messageJson(RunConfigSchema, fromJson(RunConfigSchema, parse(yaml))),
      });
    } catch (error) {
      log.info("Not a preset", {
        file: name,
        error: error instanceof Error ? error.message : error,
      });
    }
  }
  return presets.sort((a, b) => a.name < b.name ? -1 : 1);
}

/** Puts addresses in place of the endpoints of rewards known by name, and leaves all else as it was written. */
function withAddresses(
  text: string,
  document: Document,
  addresses: ReadonlyMap<string, string>,
): string {
  const rewards = document.get("rewards");
  let moved = 0;
  for (const i of isSeq(rewards) ? rewards.items.keys() : []) {
    const address = addresses.get(String(document.getIn(["rewards", i, "name"])));
    const endpoint = document.getIn(["rewards", i, "endpoint"], true);
    if (address === undefined || !isScalar(endpoint) || !endpoint.range) continue;
    const [start, end] = endpoint.range;
    const quoted = JSON.stringify(address);
    text = text.slice(0, start + moved) + quoted + text.slice(end + moved);
    moved += quoted.length - (end - start);
  }
  return text;
}
