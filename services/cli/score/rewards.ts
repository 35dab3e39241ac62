import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";
import {
  loadReward,
  parseRewardConfig,
  type Reward,
  RewardConfigError,
} from "../../../rewards/mod.ts";
import { ConfigError, fieldPosition, readConfig } from "../../launch/mod.ts";
import { parseEndpoint, RemoteReward } from "../../rpc/mod.ts";
import { type Arguments, UsageError } from "../command.ts";
import { checkAnswers, KEEPALIVE } from "../check_answers.ts";
import { tlsOf } from "../tls_options.ts";

/** The embedded tiny models: what a reward is loaded from when no weights are named. */
const ZOO = new URL("../../../zoo/rewards/", import.meta.url);
const EMBEDDED: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  clip: { weights: "clip" },
  pickscore: { weights: "pickscore" },
  owlvit: { weights: "owlvit" },
  hpsv2: {
    weights: "hpsv2/HPS_tiny.pt",
    config: "hpsv2/open_clip_config.json",
    tokenizer: "hpsv2",
  },
  aesthetic: { weights: "clip", head: "aesthetic/aesthetic_tiny.pth" },
};

/**
 * The rewards a command line asks for: on a server with --endpoint, from a YAML file with --rewards, and by --reward,
 * a kind ("symmetry"), a kind with options as a JSON record, or a name in the YAML file.
 */
export async function openRewards(args: Arguments): Promise<readonly Reward[]> {
  const names = args.list("reward");
  const endpoint = args.text("endpoint");
  if (endpoint !== undefined) {
    if (args.text("rewards") !== undefined) {
      throw new UsageError("Options --endpoint and --rewards exclude one another");
    }
    const wanted = names.length === 0 ? [""] : names;
    const { address, tls } = await tlsOf(args, endpoint);
    // Of replicas one that says nothing is passed over.
    if (parseEndpoint(address)) await checkAnswers(address, { what: "The reward server", tls });
    return await Promise.all(wanted.map((reward) =>
      RemoteReward.connect(address, {
        reward,
        // A model may take its time; a server that is not there is told within seconds.
        timeoutMs: 600_000,
        retry: { attempts: 4 },
        keepalive: KEEPALIVE,
        tls,
      })
    ));
  }
  return await localRewards(args, names);
}

/** Loads rewards in this process: by name or record, of `--rewards FILE` or the embedded ones. Throws `UsageError`. */
export async function localRewards(
  args: Arguments,
  names: readonly string[],
): Promise<readonly Reward[]> {
  const file = args.text("rewards");
  const { records, keys } = file === undefined
    ? { records: [], keys: [] }
    : await readRecords(file);
  const baseDir = file === undefined ? "." : dirname(file);
  const chosen = names.length === 0 ? records : names.map((name) => record(name, records));
  if (chosen.length === 0) throw new UsageError("Name a reward: --reward KIND or --rewards FILE");
  const flags = flagFields(args);
  const [flag] = Object.keys(flags);
  if (flag !== undefined && chosen.length > 1) {
    throw new UsageError(
      `Field ${flag} is given as an option, and ${chosen.length} rewards are named: ` +
        "use JSON records or --rewards FILE",
    );
  }
  const threads = args.number("threads", { min: 1, integer: true });
  // What is wrong with a record of the file is said with the record's line.
  const located = async <T>(value: Fields, parse: () => T): Promise<T> => {
    try {
      return parse();
    } catch (error) {
      const i = records.indexOf(value);
      if (!(error instanceof RewardConfigError) || file === undefined || i < 0) throw error;
      const where = await fieldPosition(file, [...keys, i]);
      throw new UsageError(`${where}: ${error.message}`, { cause: error });
    }
  };
  const rewards: Reward[] = [];
  try {
    for (const value of chosen) {
      const config = await located(
        value,
        () => parseRewardConfig(withDefaults({ ...value, ...flags })),
      );
      rewards.push(
        await loadReward(config, {
          baseDir,
          // The check of a gradient that nobody asks for is most of what loading takes.
          selfCheck: args.text("gradient") !== undefined,
          ...(threads !== undefined && { threads }),
        }),
      );
    }
  } catch (error) {
    await Promise.all(rewards.map((r) => r.dispose()));
    throw error;
  }
  return rewards;
}

type Fields = Readonly<Record<string, unknown>>;

async function readRecords(
  file: string,
): Promise<{ readonly records: readonly Fields[]; readonly keys: readonly string[] }> {
  const value = await readConfig(file, z.unknown()).catch((error) => {
    throw error instanceof ConfigError ? new UsageError(error.message, { cause: error }) : error;
  });
  const isWhole = isFields(value) && "rewards" in value;
  const list = isWhole ? value["rewards"] : value;
  if (!Array.isArray(list) || !list.every(isFields)) {
    throw new UsageError(`${file}: expected a list of reward records, each with a kind`);
  }
  return { records: list, keys: isWhole ? ["rewards"] : [] };
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function record(name: string, records: readonly Fields[]): Fields {
  if (name.startsWith("{")) {
    try {
      const value: unknown = JSON.parse(name);
      if (isFields(value)) return value;
    } catch (error) {
      throw new UsageError(`--reward ${name}: ${error instanceof Error ? error.message : error}`);
    }
  }
  return records.find((r) => (r["name"] ?? r["kind"]) === name) ?? { kind: name };
}

/** Fields of a record given as flags. */
function flagFields(args: Arguments): Fields {
  const flags = ["weights", "head", "tokenizer", "query"].flatMap((name) => {
    const text = args.text(name);
    return text === undefined ? [] : [[name, text]];
  });
  const settings = args.list("set").map((text) => {
    const [, name, value = ""] = /^(\w+)=(.*)$/s.exec(text) ?? [];
    if (name === undefined) throw new UsageError(`Option --set is "${text}", expected FIELD=VALUE`);
    return [name, parse(value)];
  });
  return Object.fromEntries([...flags, ...settings]);
}

/** The record with the embedded weights where it names none. */
function withDefaults(merged: Fields): Fields {
  const embedded = EMBEDDED[String(merged["kind"])];
  if (embedded === undefined || merged["weights"] !== undefined) return merged;
  console.error(`Reward ${merged["kind"]}: no weights named, taking the embedded tiny model`);
  const paths = Object.entries(embedded).map(([k, path]) => [k, fileURLToPath(new URL(path, ZOO))]);
  return { ...Object.fromEntries(paths), ...merged };
}
