/**
 * The gateway's process:
 *
 *     deno run -A services/gateway/main.ts --trainer 127.0.0.1:50060 --rewards clip=127.0.0.1:50051 --runs runs
 *
 * Prints one JSON line on stdout when it listens, and logs to stderr. SIGTERM and SIGINT drain and end it.
 */
import { createLogger, LOG_LEVELS } from "../../base/mod.ts";
import {
  LISTEN_OPTIONS,
  parseAddress,
  parseAddresses,
  portOf,
  readClientTls,
  readToken,
  runService,
  type ServiceProgram,
} from "../launch/mod.ts";
import { serveGateway } from "./serve_gateway.ts";

const PROGRAM: ServiceProgram = {
  entry: "services/gateway/main.ts",
  usage: "--trainer HOST:PORT",
  options: {
    trainer: { type: "string", value: "HOST:PORT", help: "the trainer service" },
    "trainer-token": {
      type: "string",
      value: "FILE",
      help: "its first line is what the trainer asks for",
    },
    rewards: {
      type: "string",
      value: "NAME=ADDR,…",
      help: "reward servers; addresses with TLS, of the trainer too, begin with grpcs://",
    },
    ca: {
      type: "string",
      value: "FILE",
      help: "PEM of the authorities of their certificates (default: the system's)",
    },
    cert: {
      type: "string",
      value: "FILE",
      help: "PEM of a certificate for those that ask for one, with --key",
    },
    key: { type: "string", value: "FILE", help: "PEM of its key" },
    runs: { type: "string", value: "DIR", help: "the trainer's folder of runs, for images" },
    presets: {
      type: "string",
      value: "DIR",
      help: "folder of run configurations to start from (default: the project's configs)",
    },
    "token-file": {
      type: "string",
      value: "FILE",
      help: "its first line is the token that every route asks for",
    },
    port: { type: "string", value: "PORT", help: "0 takes a free port (default 8080)" },
    ...LISTEN_OPTIONS,
  },
  async start(args) {
    const [runs, presets] = [args.text("runs"), args.text("presets")];
    const [ca, cert, key] = [args.text("ca"), args.text("cert"), args.text("key")];
    const [tokenFile, trainerTokenFile] = [args.text("token-file"), args.text("trainer-token")];
    return await serveGateway({
      trainer: parseAddress("--trainer", args.required("trainer")),
      rewards: parseAddresses("--rewards", args.text("rewards") ?? ""),
      host: args.text("host") ?? "127.0.0.1",
      port: portOf(args, "port") ?? 8080,
      log: createLogger({ level: args.oneOf("log-level", LOG_LEVELS) ?? "info" }),
      tls: await readClientTls({ ca, cert, key }),
      ...(runs !== undefined && { runs }),
      ...(presets !== undefined && { presets: folderUrl(presets) }),
      ...(tokenFile !== undefined && { token: await readToken(tokenFile) }),
      ...(trainerTokenFile !== undefined && { trainerToken: await readToken(trainerTokenFile) }),
    });
  },
};

/** Runs a gateway until it is told to end. Answers the exit code. */
export async function main(words: readonly string[]): Promise<number> {
  return await runService(PROGRAM, words);
}

function folderUrl(path: string): URL {
  return new URL(`${path.replace(/\/*$/, "")}/`, `file://${Deno.cwd()}/`);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
