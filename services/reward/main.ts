/**
 * A reward server's process:
 *
 *     deno run -A services/reward/main.ts --config rewards.yaml
 *     deno run -A services/reward/main.ts --reward symmetry --port 50051
 *
 * Prints one JSON line on stdout when it is ready, and logs to stderr. SIGTERM and SIGINT drain and end it.
 */
import { dirname, resolve } from "node:path";
import { parseRewardConfig, RewardConfigError } from "../../rewards/mod.ts";
import {
  answerFirst,
  type Arguments,
  ConfigError,
  LISTEN_OPTIONS,
  type Options,
  portOf,
  readConfig,
  runService,
} from "../launch/mod.ts";
import { rewardServerSchema, startRewardServer } from "./reward_server.ts";

const OPTIONS: Options = {
  config: {
    type: "string",
    value: "FILE",
    help: "YAML or JSON file; the other options replace its values",
  },
  reward: {
    type: "string",
    multiple: true,
    value: "RECORD",
    help: 'a kind ("symmetry") or a JSON record; may be repeated',
  },
  settings: {
    type: "string",
    value: "JSON",
    help: 'other fields of the file as a JSON object, e.g. {"threads":2,"provider":"cuda"}',
  },
  port: { type: "string", value: "PORT", help: "0 takes a free port (default 50051)" },
  "metrics-port": {
    type: "string",
    value: "PORT",
    help: "serves Prometheus' metrics there, under /metrics (default: not)",
  },
  ...LISTEN_OPTIONS,
};

/** A configuration whose records are those of the project's own rewards, so that they can be checked right away. */
const ownRewardsSchema = rewardServerSchema.superRefine(({ rewards }, { addIssue }) => {
  for (const [i, record] of rewards.entries()) {
    try {
      parseRewardConfig(record);
    } catch (error) {
      if (!(error instanceof RewardConfigError)) throw error;
      const message = `is refused: ${error.message}`;
      addIssue({ code: "custom", path: ["rewards", i], message });
    }
  }
});

/** Runs a reward server until it is told to end. Answers the exit code. */
export async function main(
  words: readonly string[],
  { worker }: { readonly worker?: URL } = {},
): Promise<number> {
  return await runService({
    entry: "services/reward/main.ts",
    options: OPTIONS,
    async start(args) {
      const file = args.text("config");
      const schema = worker ? rewardServerSchema : ownRewardsSchema;
      const config = await readConfig(file, schema, overrides(args));
      return await startRewardServer(config, {
        folder: file === undefined ? Deno.cwd() : dirname(resolve(file)),
        ...(worker && { worker }),
      });
    },
  }, words);
}

function overrides(args: Arguments): Record<string, unknown> {
  const [host, logLevel, settings] = [
    args.text("host"),
    args.text("log-level"),
    args.text("settings"),
  ];
  const [port, metricsPort] = [portOf(args, "port"), portOf(args, "metrics-port")];
  const rewards = args.list("reward");
  return {
    ...(settings !== undefined && parseObject("settings", settings)),
    ...(host !== undefined && { host }),
    ...(port !== undefined && { port }),
    ...(metricsPort !== undefined && { metricsPort }),
    ...(logLevel !== undefined && { logLevel }),
    ...(rewards.length > 0 && { rewards: rewards.map(parseReward) }),
  };
}

function parseReward(text: string): unknown {
  return text.startsWith("{") ? parseObject("reward", text) : { kind: text };
}

function parseObject(option: string, text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch (cause) {
    throw new ConfigError(`--${option} ${text}: ${cause instanceof Error ? cause.message : cause}`);
  }
  throw new ConfigError(`--${option} ${text}: expected a JSON object`);
}

if (import.meta.main) {
  answerFirst();
  Deno.exit(await main(Deno.args));
}
