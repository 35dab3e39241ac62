/**
 * The trainer service's process:
 *
 *     deno run -A services/trainer/main.ts --models zoo --runs runs --port 50060
 *
 * With `--nats nats://HOST:PORT` (and `--nats-token-file FILE`, where NATS asks for a token) workers compute what it trains
 * on, and of several trainers over one folder of runs one leads; the others are not ready until they do.
 *
 * Prints one JSON line on stdout when it is ready, and logs to stderr. SIGTERM and SIGINT let the present iteration finish,
 * write a checkpoint and end it; the next start goes on from there.
 */
import { hostname } from "node:os";
import { resolve } from "node:path";
import { TrainerService } from "../../proto/mod.ts";
import { PROVIDERS } from "../../runtime/mod.ts";
import { createLogger, LOG_LEVELS, type Logger } from "../../base/mod.ts";
import {
  answerFirst,
  type Arguments,
  LISTEN_OPTIONS,
  NATS_OPTIONS,
  parseAddresses,
  portOf,
  readNatsOptions,
  readRewardTls,
  readServerTls,
  readToken,
  REWARD_TLS_OPTIONS,
  runService,
  type ServiceProgram,
  UsageError,
} from "../launch/mod.ts";
import { grpcService, startGrpcServer } from "../rpc/mod.ts";
import { RpcMetrics, serveMetrics } from "../rpc/metrics/mod.ts";
import { checkFolders } from "./check_folders.ts";
import type { ClusterOptions, Leadership } from "./cluster/mod.ts";
import { TrainerThread } from "./trainer_thread.ts";

const PROGRAM: ServiceProgram = {
  entry: "services/trainer/main.ts",
  options: {
    models: {
      type: "string",
      value: "DIR",
      help: "folder of models and prompt files; requests name paths inside it (default .)",
    },
    runs: { type: "string", value: "DIR", help: "folder of runs (default runs)" },
    rewards: {
      type: "string",
      value: "NAME=ADDR,…",
      help:
        "where rewards are to which a run gives no endpoint; grpcs://HOST:PORT where it is to be asked over TLS",
    },
    ...REWARD_TLS_OPTIONS,
    ...NATS_OPTIONS,
    silence: {
      type: "string",
      value: "SECONDS",
      help: "a job whose worker says nothing for so long is given to another (default 10)",
    },
    port: { type: "string", value: "PORT", help: "0 takes a free port (default 50060)" },
    "metrics-port": {
      type: "string",
      value: "PORT",
      help: "serves Prometheus' metrics there, under /metrics (default: not)",
    },
    threads: { type: "string", value: "N", help: "threads of one operator (default: all cores)" },
    provider: { type: "string", value: "NAME", help: `${PROVIDERS.join(", ")} (default cpu)` },
    "token-file": {
      type: "string",
      value: "FILE",
      help: 'callers must send "authorization: Bearer" and the file\'s first line',
    },
    "tls-cert": {
      type: "string",
      value: "FILE",
      help: "PEM of a certificate to serve over TLS with, with --tls-key",
    },
    "tls-key": { type: "string", value: "FILE", help: "PEM of its key" },
    "client-ca": {
      type: "string",
      value: "FILE",
      help: "callers must show a certificate that this authority signed",
    },
    ...LISTEN_OPTIONS,
  },
  async start(args) {
    const host = args.text("host") ?? "127.0.0.1";
    const port = portOf(args, "port") ?? 50060;
    const metricsPort = portOf(args, "metrics-port");
    const threads = args.number("threads", { min: 1, max: 1024, integer: true });
    const provider = args.oneOf("provider", PROVIDERS) ?? "cpu";
    const rewards = parseAddresses("--rewards", args.text("rewards") ?? "");
    const level = args.oneOf("log-level", LOG_LEVELS) ?? "info";
    const tokenFile = args.text("token-file");
    const token = tokenFile === undefined ? undefined : await readToken(tokenFile);
    const tls = await serverTls(args);
    const rewardTls = await readRewardTls(args);
    const models = resolve(args.text("models") ?? ".");
    const runs = resolve(args.text("runs") ?? "runs");
    await checkFolders({ models, runs });
    const session = { provider, ...(threads !== undefined && { intraOpNumThreads: threads }) };
    const log = createLogger({ level });
    const thread = TrainerThread.load();
    const cluster = await joinCluster(args, log);
    const calls = new RpcMetrics();
    const trainer = await TrainerThread.start({
      models,
      runs,
      rewards,
      rewardTls,
      session,
      logLevel: level,
      cluster: cluster?.options,
    }, thread);
    // After the training thread was started: a thread begins with the priority of the one that starts it.
    answerFirst();
    const server = await startGrpcServer({
      services: [grpcService(TrainerService, trainer.handlers, { ...(token && { token }) })],
      host,
      port,
      log,
      observe: calls.observe,
      ...(tls && { tls }),
    });
    const metrics = metricsPort === undefined ? undefined : serveMetrics(
      async () => [...calls.families(), ...await trainer.families()],
      { host, port: metricsPort },
    );
    return {
      address: server.address,
      metricsAddress: metrics?.address,
      async stop() {
        await trainer.close();
        await server.stop({ drainSeconds: 2 });
        await metrics?.stop();
        await cluster?.leadership.release();
      },
    };
  },
};

/** Waits until this trainer leads the cluster; `undefined` where it is to compute by itself. */
async function joinCluster(
  args: Arguments,
  log: Logger,
): Promise<{ readonly leadership: Leadership; readonly options: ClusterOptions } | undefined> {
  const nats = await readNatsOptions(args);
  if (nats === undefined) return undefined;
  const silence = args.number("silence", { min: 1, max: 3600 }) ?? 10;
  // Without a cluster nothing of NATS is loaded.
  const { Leadership } = await import("./cluster/mod.ts");
  const leadership = await Leadership.take(nats, { name: `${hostname()}-${Deno.pid}`, log });
  leadership.lost.then((reason) => {
    // At once: whatever is still written would be written twice.
    log.error(`Leads no more: ${reason}`);
    Deno.exit(1);
  });
  return { leadership, options: { nats, epoch: leadership.epoch, silenceMs: 1000 * silence } };
}

async function serverTls(args: Arguments) {
  const [cert, key, clientCa] = [
    args.text("tls-cert"),
    args.text("tls-key"),
    args.text("client-ca"),
  ];
  if ((cert === undefined) !== (key === undefined) || (clientCa !== undefined && !cert)) {
    throw new UsageError("Options --tls-cert and --tls-key go together, and --client-ca with them");
  }
  return cert !== undefined && key !== undefined
    ? await readServerTls({ cert, key, clientCa })
    : undefined;
}

/** Runs the trainer service until it is told to end. Answers the exit code. */
export async function main(words: readonly string[]): Promise<number> {
  return await runService(PROGRAM, words);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
