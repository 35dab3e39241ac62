/**
 * `deno task measure-reward`: what one reward costs at its true size. Writes its random weights unless they are there,
 * starts a reward server on them, and asks it for scores and gradients.
 *
 *     deno task measure-reward --kind hpsv2|pickscore|aesthetic|owlvit --folder FOLDER [--calls 5] [--size 512] [--threads 2]
 *
 * Prints load time, median time of a call, the share of it outside the session, and the largest resident memory of the
 * server and its workers beside the limit: 1.3 times the weights in float32, and 1.5 GB. Linux only. Needs the memory.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { float32, sizeOf } from "../autodiff/mod.ts";
import { Random } from "../models/random/mod.ts";
import { DataType, RewardService } from "../proto/mod.ts";
import { grpcClient } from "../services/rpc/mod.ts";
import { REWARDS } from "./random_model/reward_kinds.ts";
import { writeRandomReward } from "./random_model/write_reward.ts";

const { values } = parseArgs({
  options: {
    kind: { type: "string", default: "" },
    folder: { type: "string", default: "" },
    calls: { type: "string", default: "5" },
    size: { type: "string", default: "512" },
    threads: { type: "string", default: "2" },
  },
});
const { kind, folder } = values;
const reward = REWARDS[kind];
if (reward === undefined || folder === "") {
  console.error(`Give --kind, one of ${Object.keys(REWARDS).join(", ")}, and --folder`);
  process.exit(2);
}
const [calls, size, threads] = [values.calls, values.size, values.threads].map(Number);
const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

if (!existsSync(join(folder, "reward.json"))) {
  await writeRandomReward(folder, { reward, tokenizer: path("../zoo/rewards/clip") });
}
await Deno.writeTextFile(
  join(folder, "server.json"),
  JSON.stringify({
    port: 0,
    rewards: [reward.record],
    threads,
    cacheDir: "cache",
    logLevel: "error",
  }),
);

const began = performance.now();
const server = new Deno.Command(Deno.execPath(), {
  args: ["run", "-A", path("../services/reward/main.ts"), "--config", join(folder, "server.json")],
  stdout: "piped",
}).spawn();
try {
  const ready = await firstLine(server.stdout);
  // Why it could not load is on stderr.
  if (ready === "") process.exit(1);
  const { address } = JSON.parse(ready);
  const loadSeconds = (performance.now() - began) / 1000;
  const afterLoad = await peakBytes(server.pid);
  const client = grpcClient(RewardService, address);
  const random = new Random(7);
  const shape = [1, 3, size ?? 512, size ?? 512];
  const { data } = float32(
    Float32Array.from({ length: sizeOf(shape) }, () => random.uniform()),
    shape,
  );
  const value = { dtype: DataType.FLOAT32, shape, data: new Uint8Array(data.buffer) };
  const request = {
    images: [{ source: { case: "tensor" as const, value } }],
    prompts: ["a fox, and books"],
  };
  const times: number[] = [];
  const outside: number[] = [];
  for (let i = 0; i < Math.max(2, (calls ?? 5) + 1); i++) {
    const start = performance.now();
    const { timing } = await client.scoreAndGradient(request);
    const seconds = (performance.now() - start) / 1000;
    // The first call makes the graphs of this size.
    if (i === 0) continue;
    times.push(seconds);
    outside.push(1 - (timing?.computeSeconds ?? 0) / seconds);
  }
  const weights = reward.weights.reduce(
    (sum, { shapes }) => sum + [...shapes.values()].reduce((n, shape) => n + 4 * sizeOf(shape), 0),
    0,
  );
  const limit = 1.3 * weights + 1.5e9;
  const peak = await peakBytes(server.pid);
  const gb = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;
  console.log(JSON.stringify(
    {
      kind,
      image: `${size}x${size}`,
      threads,
      weights: gb(weights),
      loadSeconds: Number(loadSeconds.toFixed(2)),
      callSeconds: Number(median(times).toFixed(3)),
      outsideSessionProcess: `${(100 * median(outside)).toFixed(1)} %`,
      peakAfterLoad: gb(afterLoad),
      peak: gb(peak),
      limit: gb(limit),
      withinLimit: peak <= limit,
    },
    null,
    2,
  ));
  client.close();
} finally {
  server.kill("SIGTERM");
  await server.status;
}

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const { value } = await stream.getReader().read();
  return new TextDecoder().decode(value).split("\n")[0] ?? "";
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

/** Largest resident memory that a process and its children have had, summed. */
async function peakBytes(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  const own = 1024 * Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
  const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
  const others = children.trim().split(" ").filter(Boolean).map((child) =>
    peakBytes(Number(child))
  );
  return (await Promise.all(others)).reduce((sum, bytes) => sum + bytes, own);
}
