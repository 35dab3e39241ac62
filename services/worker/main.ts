/**
 * A worker's process, which computes what trainers hand out over NATS:
 *
 *     deno run -A services/worker/main.ts --nats nats://127.0.0.1:4222 --nats-token-file nats.token --models zoo
 *
 * Prints one JSON line on stdout when it has joined, and logs to stderr. SIGTERM and SIGINT let it finish its job and
 * end; of one that is killed before another worker does the job.
 */
import { hostname } from "node:os";
import { resolve } from "node:path";
import { createLogger, LOG_LEVELS } from "../../base/mod.ts";
import { PROVIDERS } from "../../runtime/mod.ts";
import { connectNats } from "../cluster/mod.ts";
import {
  LISTEN_OPTIONS,
  NATS_OPTIONS,
  readNatsOptions,
  readRewardTls,
  REWARD_TLS_OPTIONS,
  runService,
  type ServiceProgram,
  UsageError,
} from "../launch/mod.ts";
import { ClusterWorker } from "./cluster_worker.ts";
import { hardwareOf } from "./hardware.ts";

const PROGRAM: ServiceProgram = {
  entry: "services/worker/main.ts",
  usage: "--nats ADDR",
  options: {
    ...NATS_OPTIONS,
    models: {
      type: "string",
      value: "DIR",
      help: "folder of models, with those that runs name under the same paths (default .)",
    },
    name: {
      type: "string",
      value: "NAME",
      help: "its own, unlike all other workers' (default: of the machine and the process)",
    },
    threads: { type: "string", value: "N", help: "threads of one operator (default: all cores)" },
    provider: { type: "string", value: "NAME", help: `${PROVIDERS.join(", ")} (default cpu)` },
    ...REWARD_TLS_OPTIONS,
    "log-level": LISTEN_OPTIONS["log-level"],
  },
  async start(args) {
    const options = await readNatsOptions(args);
    if (options === undefined) throw new UsageError("Option --nats is missing");
    const provider = args.oneOf("provider", PROVIDERS) ?? "cpu";
    const threads = args.number("threads", { min: 1, max: 1024, integer: true });
    const rewardTls = await readRewardTls(args);
    const name = args.text("name") ?? `${hostname()}-${Deno.pid}`;
    const hardware = await hardwareOf(provider);
    const level = args.oneOf("log-level", LOG_LEVELS) ?? "info";
    const log = createLogger({ level }).with({ worker: name });
    const nats = await connectNats(options, { name, log });
    const worker = new ClusterWorker({
      ...{ name, nats, hardware, rewardTls, log },
      memoryBytes: hardware.memoryBytes,
      models: resolve(args.text("models") ?? "."),
      session: { provider, ...(threads !== undefined && { intraOpNumThreads: threads }) },
    });
    return {
      address: nats.getServer(),
      async stop() {
        await worker.drain();
        await nats.close();
      },
    };
  },
};

/** Runs a worker until it is told to end. Answers the exit code. */
export async function main(words: readonly string[]): Promise<number> {
  return await runService(PROGRAM, words);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
