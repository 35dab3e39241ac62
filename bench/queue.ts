/**
 * What the way through the queue costs an iteration: a trainer and one worker over NATS, with a LoRA of SD 1.5's shapes and
 * no work in the jobs, so that all that is left is the queue, the tensors and their digests.
 *
 *     deno task clients nats-server
 *     deno task queue [--rank 16] [--shards 8] [--iterations 10]
 *
 * Prints times and CPU seconds (user and system, of both processes) per shard and per iteration.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { float32 } from "../autodiff/mod.ts";
import { createLogger } from "../base/mod.ts";
import { NATS_SERVER, NatsServer } from "../tests/cluster/mod.ts";
import { Cluster } from "../services/trainer/cluster/mod.ts";
import { type Parameters, parseRunConfig } from "../trainer/mod.ts";
import { LineProcess } from "./line_process.ts";

/** Channels of SD 1.5's transformer blocks and how many there are; its prompts have 768. */
const [BLOCKS, CONTEXT] = [[[320, 5], [640, 5], [1280, 6]], 768] as const;

const { values } = parseArgs({
  options: {
    rank: { type: "string", default: "16" },
    shards: { type: "string", default: "8" },
    iterations: { type: "string", default: "10" },
  },
});
const [rank, shards, iterations] = [values.rank, values.shards, values.iterations].map(Number);
if (NATS_SERVER === undefined) {
  console.error("nats-server is not there: deno task clients nats-server");
  process.exit(2);
}
const parameters = loraOf(rank ?? 16);
const bytes = Object.values(parameters).reduce((sum, { data }) => sum + data.byteLength, 0);
const folder = await Deno.makeTempDir({ prefix: "drtune-queue-" });
const nats = await NatsServer.start(folder);
const log = createLogger({ level: "warn" });
const cluster = await Cluster.join({
  ...{ nats: { servers: [nats.address] }, epoch: "1-bench", silenceMs: 10_000, log },
});
const worker = await LineProcess.start(Deno.execPath(), [
  ...["run", "-A", "--quiet", new URL("_queue_worker.ts", import.meta.url).pathname],
  nats.address,
], {});
const config = parseRunConfig({
  model: "none",
  prompts: ["a fox"],
  batch: { size: shards },
  shard: { images: 1 },
  rewards: [{ name: "none", endpoint: "127.0.0.1:1" }],
});
const run = await cluster.begin({
  ...{ id: "bench", config, modelDigest: "none", say: () => Promise.resolve() },
});
const never = new AbortController().signal;
const parts = Array.from({ length: shards ?? 8 }, (_, start) => ({
  ...{ batch: 0, start, end: start + 1 },
}));
const iterate = async (iteration: number) => {
  const offered = run.offer({
    ...{ iteration, shards: parts, parameters, reference: undefined, rewards: config.rewards },
    take: () => {},
  });
  await offered.taken(never);
  await offered.withdraw();
  // Another LoRA for the next one, as after an update.
  for (const { data } of Object.values(parameters)) data[0] = iteration;
};
await iterate(1);
const [cpu, { cpuSeconds: workerCpu = 0 }] = [process.cpuUsage(), await worker.ask("cpu")];
const begun = performance.now();
for (let i = 0; i < (iterations ?? 10); i++) await iterate(2 + i);
const seconds = (performance.now() - begun) / 1000 / (iterations ?? 10);
const { user, system } = process.cpuUsage(cpu);
const own = (user + system) / 1e6 / (iterations ?? 10);
const { cpuSeconds: after = 0 } = await worker.ask("cpu");
const theirs = (after - workerCpu) / (iterations ?? 10);
console.log(
  `LoRA of rank ${rank}: ${
    (bytes / 2 ** 20).toFixed(1)
  } MiB; ${shards} shards an iteration, one worker\n` +
    `an iteration: ${seconds.toFixed(3)} s, CPU ${own.toFixed(3)} s of the trainer, ${
      theirs.toFixed(3)
    } s of the worker\n` +
    `a shard: ${(seconds / parts.length).toFixed(3)} s, CPU ${
      (own / parts.length).toFixed(3)
    } s and ${(theirs / parts.length).toFixed(3)} s`,
);
await worker.end();
await run.close();
await cluster.close();
await nats.kill();
await Deno.remove(folder, { recursive: true });

/** Tensors of a LoRA on SD 1.5's attention, all ones. */
function loraOf(rank: number): Parameters {
  const tensors: Record<string, ReturnType<typeof float32>> = {};
  for (const [channels, count] of BLOCKS) {
    for (let block = 0; block < count; block++) {
      for (const attention of ["attn1", "attn2"]) {
        for (const layer of ["to_q", "to_k", "to_v", "to_out.0"]) {
          const isContext = attention === "attn2" && (layer === "to_k" || layer === "to_v");
          const inputs = isContext ? CONTEXT : channels;
          const name = `unet.${channels}.${block}.${attention}.${layer}`;
          const filled = (n: number) => new Float32Array(n).fill(1);
          tensors[`${name}.lora_A.weight`] = float32(filled(rank * inputs), [rank, inputs]);
          tensors[`${name}.lora_B.weight`] = float32(filled(channels * rank), [channels, rank]);
        }
      }
    }
  }
  return tensors;
}
