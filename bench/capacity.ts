/**
 * A reward server of true size at its capacity, asked by ghz, a published client: failed requests, and the share of a
 * call that is not spent waiting for the session or in it.
 *
 *     deno task random-model --kind aesthetic --out FOLDER
 *     deno task clients
 *     deno task capacity --folder FOLDER [--clients 2] [--calls 24] [--size 512]
 *
 * A call is timed by ghz, from its first byte to its last; the time in the session by the server, with the hand-over to the reward's process.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { join, resolve } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { z } from "zod";
import { DataType, ScoreAndGradientRequestSchema } from "../proto/mod.ts";
import { Victim } from "../tests/fault/mod.ts";
import { findClient } from "../tools/mod.ts";

/** What of ghz's report is read; the average is in nanoseconds. */
const reportSchema = z.object({
  count: z.number(),
  average: z.number(),
  statusCodeDistribution: z.record(z.string(), z.number()),
});

const { values } = parseArgs({
  options: {
    folder: { type: "string", default: ".cache/health/aesthetic" },
    clients: { type: "string", default: "2" },
    calls: { type: "string", default: "24" },
    size: { type: "string", default: "512" },
  },
});
const ghz = findClient("ghz");
if (ghz === undefined) {
  console.error("ghz is not there: deno task clients");
  process.exit(2);
}
const [clients, calls, size] = [values.clients, values.calls, values.size].map(Number);
const side = size ?? 512;
const folder = resolve(values.folder);
const file = (name: string) => join(folder, name);
await Deno.writeTextFile(
  file("capacity.json"),
  JSON.stringify({
    port: 0,
    metricsPort: 0,
    rewards: [JSON.parse(await Deno.readTextFile(file("reward.json")))],
    cacheDir: "cache",
  }),
);
const pixels = Float32Array.from({ length: 3 * side * side }, (_, i) => i % 251 / 250);
const value = {
  dtype: DataType.FLOAT32,
  shape: [1, 3, side, side],
  data: new Uint8Array(pixels.buffer),
};
const images = [{ source: { case: "tensor" as const, value } }];
const request = create(ScoreAndGradientRequestSchema, { images, prompts: ["a fox, and books"] });
await Deno.writeFile(
  file("capacity.bin"),
  toBinary(ScoreAndGradientRequestSchema, request),
);

const server = new Victim("services/reward/main.ts", ["--config", file("capacity.json")]);
try {
  const { address, metricsAddress = "" } = await server.ready;
  // Sessions are made for the sizes of batches that come.
  await ask(address, 3 * Number(clients));
  const before = await spent(metricsAddress);
  const { count, average, statusCodeDistribution } = await ask(address, Number(calls));
  const after = await spent(metricsAddress);
  const each = (kind: keyof typeof after) => (after[kind] - before[kind]) / count;
  const call = average / 1e9;
  const outside = call - each("queue") - each("compute");
  console.log(JSON.stringify(
    {
      clients,
      statuses: statusCodeDistribution,
      callSeconds: Number(call.toFixed(3)),
      queueSeconds: Number(each("queue").toFixed(3)),
      computeSeconds: Number(each("compute").toFixed(3)),
      outsideSeconds: Number(outside.toFixed(4)),
      outsideOfCall: `${(100 * outside / call).toFixed(1)} %`,
      outsideOfCompute: `${(100 * outside / each("compute")).toFixed(1)} %`,
    },
    null,
    2,
  ));
} finally {
  await server.end("SIGTERM");
}

/** Keeps a number of requests at the server until so many are answered. */
async function ask(address: string, total: number) {
  const { stdout, stderr, success } = await new Deno.Command(ghz ?? "", {
    args: [
      "--insecure",
      ...["--call", "drtune.reward.v1.RewardService.ScoreAndGradient"],
      ...["--binary-file", file("capacity.bin"), "--timeout", "300s", "--format", "json"],
      ...["--concurrency", String(clients), "--total", String(total), address],
    ],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return reportSchema.parse(JSON.parse(new TextDecoder().decode(stdout)));
}

/** Seconds of all calls so far that were spent in the queue, and in batches. */
async function spent(address: string) {
  const text = await (await fetch(`http://${address}/metrics`)).text();
  const sum = (name: string) =>
    [...text.matchAll(new RegExp(`^${name}_sum\\S* (\\S+)$`, "gm"))]
      .reduce((total, [, value]) => total + Number(value), 0);
  return {
    queue: sum("drtune_reward_queue_seconds"),
    compute: sum("drtune_reward_compute_seconds"),
  };
}
