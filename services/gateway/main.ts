/**
 * The gateway's process:
 *
 *     deno run -A services/gateway/main.ts --trainer 127.0.0.1:50060 --rewards clip=127.0.0.1:50051 --runs runs
 *
 * Prints one JSON line on stdout when it listens, and logs to stderr. SIGTERM and SIGINT drain and end it.
 */
import { parseArgs } from "node:util";
import { createLogger } from "../../base/mod.ts";
import {
  AddressError,
  parseAddress,
  parseAddresses,
  readClientTls,
  readToken,
  toldToEnd,
} from "../launch/mod.ts";
import { serveGateway } from "./serve_gateway.ts";

const USAGE = `Usage: deno run -A services/gateway/main.ts --trainer HOST:PORT [options]

  --trainer HOST:PORT     the trainer service
  --trainer-token FILE    its first line is what the trainer asks for
  --rewards NAME=ADDR,…   reward servers, e.g. clip=127.0.0.1:50051,jpeg=127.0.0.1:50052
                          addresses with TLS, of both, begin with grpcs://
  --ca FILE               authorities of their certificates (the system's); PEM
  --cert FILE             certificate for those that ask for one, and --key
  --key FILE
  --runs DIR              the trainer's folder of runs, for sample images
  --presets DIR           folder of run configurations to start from (the project's configs)
  --token-file FILE       its first line is the token that every route asks for
  --host HOST             address to listen on (127.0.0.1)
  --port PORT             0 takes a free port (8080)
  --log-level LEVEL       debug, info, warn, error or silent (info)
  --help                  this text`;

/** A command line that cannot be used. */
class UsageError extends Error {}

/** Runs a gateway until it is told to end. Answers the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    const { values } = parse(args);
    if (values.help) {
      console.log(USAGE);
      return 0;
    }
    const { trainer, runs, presets, ca, cert, key } = values;
    if (trainer === undefined) throw new UsageError("Option --trainer is missing");
    const token = values["token-file"] && await readToken(values["token-file"]);
    const trainerToken = values["trainer-token"] && await readToken(values["trainer-token"]);
    const server = await serveGateway({
      trainer: parseAddress("--trainer", trainer),
      rewards: parseAddresses("--rewards", values.rewards ?? ""),
      tls: await readClientTls({ ca, cert, key }),
      host: values.host,
      port: portOf(values.port),
      log: createLogger({ level: logLevel(values["log-level"]) }),
      ...(runs !== undefined && { runs }),
      ...(presets !== undefined && { presets: folderUrl(presets) }),
      ...(token && { token }),
      ...(trainerToken && { trainerToken }),
    });
    const ended = toldToEnd();
    console.log(JSON.stringify({ ready: true, address: server.address }));
    await ended;
    await server.stop();
    return 0;
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return error instanceof UsageError || error instanceof AddressError ? 2 : 1;
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        trainer: { type: "string" },
        "trainer-token": { type: "string" },
        rewards: { type: "string" },
        ca: { type: "string" },
        cert: { type: "string" },
        key: { type: "string" },
        runs: { type: "string" },
        presets: { type: "string" },
        "token-file": { type: "string" },
        host: { type: "string", default: "127.0.0.1" },
        port: { type: "string", default: "8080" },
        "log-level": { type: "string", default: "info" },
        help: { type: "boolean" },
      },
    });
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function portOf(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65535) return port;
  throw new UsageError(`Option --port is "${text}", expected 0 to 65535`);
}

function logLevel(text: string) {
  const level = (["debug", "info", "warn", "error", "silent"] as const).find((l) => l === text);
  if (level) return level;
  throw new UsageError(
    `Option --log-level is "${text}", expected debug, info, warn, error or silent`,
  );
}

function folderUrl(path: string): URL {
  return new URL(`${path.replace(/\/*$/, "")}/`, `file://${Deno.cwd()}/`);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
