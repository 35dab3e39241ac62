/**
 * The trainer service's process:
 *
 *     deno run -A services/trainer/main.ts --models zoo --runs runs --port 50060
 *
 * Prints one JSON line on stdout when it is ready, and logs to stderr. SIGTERM and SIGINT let the present step finish,
 * write a checkpoint and end it; the next start goes on from there.
 */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { TrainerService } from "../../proto/mod.ts";
import { PROVIDERS } from "../../runtime/mod.ts";
import { createLogger, InputError, LOG_LEVELS } from "../../base/mod.ts";
import {
  answerFirst,
  parseAddresses,
  readClientTls,
  readServerTls,
  readToken,
  toldToEnd,
} from "../launch/mod.ts";
import { grpcService, startGrpcServer } from "../rpc/mod.ts";
import { RpcMetrics, serveMetrics } from "../rpc/metrics/mod.ts";
import { checkFolders } from "./check_folders.ts";
import { TrainerThread } from "./trainer_thread.ts";

const USAGE = `Usage: deno run -A services/trainer/main.ts [options]

  --models DIR         folder of models and prompt files; requests name paths inside it (.)
  --runs DIR           folder of runs (runs)
  --rewards LIST       NAME=HOST:PORT,…: where rewards are to which a run gives no endpoint;
                       grpcs://HOST:PORT where it is to be asked over TLS
  --reward-ca FILE     authorities of such rewards' certificates (the system's); PEM
  --reward-cert FILE   certificate for those that ask for one, and --reward-key
  --reward-key FILE
  --host HOST          address to listen on (127.0.0.1)
  --port PORT          0 takes a free port (50060)
  --metrics-port PORT  serves Prometheus' metrics there, under /metrics (not)
  --threads N          threads of one operator (all cores)
  --provider NAME      cpu, cuda or webgpu (cpu)
  --token-file FILE    callers must send "authorization: Bearer" and the file's first line
  --tls-cert FILE      serves over TLS with this certificate, and --tls-key; PEM
  --tls-key FILE
  --client-ca FILE     callers must show a certificate that this authority signed
  --log-level LEVEL    debug, info, warn, error or silent (info)
  --help               this text`;

/** Runs the trainer service until it is told to end. Answers the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    const { values } = parse(args);
    if (values.help) {
      console.log(USAGE);
      return 0;
    }
    const port = wholeNumber("port", values.port, 0, 65_535);
    const metricsPort = values["metrics-port"] === undefined
      ? undefined
      : wholeNumber("metrics-port", values["metrics-port"], 0, 65_535);
    const threads = values.threads === undefined
      ? undefined
      : wholeNumber("threads", values.threads, 1, 1024);
    const provider = PROVIDERS.find((p) => p === values.provider);
    if (provider === undefined) {
      throw new InputError(
        `Option --provider is "${values.provider}", expected ${PROVIDERS.join(", ")}`,
      );
    }
    const rewards = parseAddresses("--rewards", values.rewards ?? "");
    const token = values["token-file"] === undefined
      ? undefined
      : await readToken(values["token-file"]);
    const level = LOG_LEVELS.find((l) => l === values["log-level"]);
    if (level === undefined) {
      throw new InputError(
        `Option --log-level is "${values["log-level"]}", expected ${LOG_LEVELS.join(", ")}`,
      );
    }
    const { "tls-cert": cert, "tls-key": key, "client-ca": clientCa } = values;
    if ((cert === undefined) !== (key === undefined) || (clientCa !== undefined && !cert)) {
      throw new InputError(
        "Options --tls-cert and --tls-key go together, and --client-ca with them",
      );
    }
    const tls = cert !== undefined && key !== undefined
      ? await readServerTls({ cert, key, clientCa })
      : undefined;
    const rewardTls = await readClientTls({
      ca: values["reward-ca"],
      cert: values["reward-cert"],
      key: values["reward-key"],
    });
    const log = createLogger({ level });
    const [modelRoot, runs] = [resolve(values.models), resolve(values.runs)];
    await checkFolders({ models: modelRoot, runs });
    const session = { provider, ...(threads !== undefined && { intraOpNumThreads: threads }) };
    const calls = new RpcMetrics();
    const trainer = await TrainerThread.start({
      models: modelRoot,
      runs,
      rewards,
      rewardTls,
      session,
      logLevel: level,
    });
    // Not before: threads begin with the priority of the one that starts them.
    answerFirst();
    const ended = toldToEnd();
    const server = await startGrpcServer({
      services: [grpcService(TrainerService, trainer.handlers, { ...(token && { token }) })],
      host: values.host,
      port,
      log,
      observe: calls.observe,
      ...(tls && { tls }),
    });
    const metrics = metricsPort === undefined ? undefined : serveMetrics(
      async () => [...calls.families(), ...await trainer.families()],
      { host: values.host, port: metricsPort },
    );
    const addresses = { address: server.address, metricsAddress: metrics?.address };
    console.log(JSON.stringify({ event: "ready", ...addresses, pid: Deno.pid }));
    await ended;
    await trainer.close();
    await server.stop({ drainSeconds: 2 });
    await metrics?.stop();
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
        models: { type: "string", default: "." },
        runs: { type: "string", default: "runs" },
        rewards: { type: "string" },
        "reward-ca": { type: "string" },
        "reward-cert": { type: "string" },
        "reward-key": { type: "string" },
        host: { type: "string", default: "127.0.0.1" },
        port: { type: "string", default: "50060" },
        "metrics-port": { type: "string" },
        threads: { type: "string" },
        provider: { type: "string", default: "cpu" },
        "token-file": { type: "string" },
        "tls-cert": { type: "string" },
        "tls-key": { type: "string" },
        "client-ca": { type: "string" },
        "log-level": { type: "string", default: "info" },
        help: { type: "boolean" },
      },
    });
  } catch (cause) {
    throw new InputError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function wholeNumber(name: string, text: string, low: number, high: number): number {
  const n = Number(text);
  if (Number.isInteger(n) && n >= low && n <= high && text.trim() !== "") return n;
  throw new InputError(
    `Option --${name} is "${text}", expected a whole number from ${low} to ${high}`,
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
