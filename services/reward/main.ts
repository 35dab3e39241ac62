/**
 * A reward server's process:
 *
 *     deno run -A services/reward/main.ts --config rewards.yaml
 *     deno run -A services/reward/main.ts --reward symmetry --port 50051
 *
 * Prints one JSON line on stdout when it is ready, and logs to stderr. SIGTERM and SIGINT drain and end it.
 */
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { parseRewardConfig, RewardConfigError } from "../../rewards/mod.ts";
import { InputError } from "../../base/mod.ts";
import { answerFirst, ConfigError, readConfig, toldToEnd } from "../launch/mod.ts";
import { rewardServerSchema, startRewardServer } from "./reward_server.ts";

const USAGE = `Usage: deno run -A services/reward/main.ts [options]

  --config FILE        YAML or JSON file; the other options replace its values
  --reward RECORD      a kind ("symmetry") or a JSON record; may be repeated
  --settings JSON      other fields of the file as a JSON object, e.g. {"threads":2,"provider":"cuda"}
  --host HOST          address to listen on (127.0.0.1)
  --port PORT          0 takes a free port (50051)
  --metrics-port PORT  serves Prometheus' metrics there, under /metrics (not)
  --log-level LEVEL    debug, info, warn, error or silent (info)
  --help               this text`;

/** A configuration whose records are those of the project's own rewards, so that they can be checked right away. */
const ownRewardsSchema = rewardServerSchema.superRefine(({ rewards }, { addIssue }) => {
  for (const [i, record] of rewards.entries()) {
    try {
      parseRewardConfig(record);
    } catch (error) {
      if (!(error instanceof RewardConfigError)) throw error;
      addIssue({ code: "custom", path: ["rewards", i], message: error.message });
    }
  }
});

/** Runs a reward server until it is told to end. Answers the exit code. */
export async function main(
  args: readonly string[],
  { worker }: { readonly worker?: URL } = {},
): Promise<number> {
  try {
    const { values } = parse(args);
    if (values.help) {
      console.log(USAGE);
      return 0;
    }
    const schema = worker ? rewardServerSchema : ownRewardsSchema;
    const config = await readConfig(values.config, schema, overrides(values));
    const ended = toldToEnd();
    const starting = startRewardServer(config, {
      folder: values.config === undefined ? Deno.cwd() : dirname(resolve(values.config)),
      ...(worker && { worker }),
    });
    const server = await Promise.race([starting, ended]);
    // Told to end while loading: there is nothing to drain, and the workers end with this process.
    if (server === undefined) return 0;
    const { stop: _, ...addresses } = server;
    console.log(JSON.stringify({ event: "ready", ...addresses, pid: Deno.pid }));
    await ended;
    await server.stop();
    return 0;
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return error instanceof InputError ? 2 : 1;
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        config: { type: "string" },
        reward: { type: "string", multiple: true },
        settings: { type: "string" },
        host: { type: "string" },
        port: { type: "string" },
        "metrics-port": { type: "string" },
        "log-level": { type: "string" },
        help: { type: "boolean" },
      },
    });
  } catch (cause) {
    throw new InputError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function overrides(
  { host, port, "metrics-port": metricsPort, "log-level": logLevel, reward, settings }: {
    readonly host?: string | undefined;
    readonly port?: string | undefined;
    readonly "metrics-port"?: string | undefined;
    readonly "log-level"?: string | undefined;
    readonly reward?: readonly string[] | undefined;
    readonly settings?: string | undefined;
  },
): Record<string, unknown> {
  return {
    ...(settings !== undefined && parseObject("settings", settings)),
    ...(host !== undefined && { host }),
    ...(port !== undefined && { port: Number(port) }),
    ...(metricsPort !== undefined && { metricsPort: Number(metricsPort) }),
    ...(logLevel !== undefined && { logLevel }),
    ...(reward && { rewards: reward.map(parseReward) }),
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
