/**
 * How long a health check takes while a reward server computes and large messages arrive, and while a trainer trains:
 *
 *     deno task health --seconds 60
 *
 * Load and checks come from processes of their own, so that neither waits for the other.
 */
import { parseArgs } from "node:util";
import { DataType, Health, RewardService } from "../proto/mod.ts";
import { grpcClient } from "../services/common/mod.ts";
import { startTrainer, train } from "../tests/fault/mod.ts";
import { Victim } from "../tests/fault/mod.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    /** Set in the process that makes the load: "host:port", image side and images a message. */
    load: { type: "string" },
  },
});

/** What is sent meanwhile: images of this side, so many a message. */
const LOADS = [
  { name: "computing, 3 MB messages (1 x 512x512)", side: 512, images: 1 },
  { name: "computing, 50 MB messages (4 x 1024x1024)", side: 1024, images: 4 },
];

if (values.load === undefined) await main(Number(values.seconds));
else await ask(values.load);

async function main(seconds: number): Promise<void> {
  const clip = { kind: "clip", weights: "zoo/rewards/clip" };
  const server = new Victim("services/reward/main.ts", [
    ...["--reward", JSON.stringify(clip), "--port", "0"],
  ]);
  try {
    const { address } = await server.ready;
    report("idle", await check(address, { seconds: seconds / 4 }));
    for (const { name, side, images } of LOADS) {
      const load = new Victim("bench/health.ts", ["--load", `${address} ${side} ${images}`]);
      await load.ready;
      report(name, await check(address, { seconds }));
      await load.end();
    }
    const runs = await Deno.makeTempDir({ prefix: "drtune-health-" });
    const trainer = startTrainer(runs);
    const { address: training } = await trainer.ready;
    const abort = new AbortController();
    const run = train(training, {
      id: "run",
      reward: address,
      iterations: 100_000,
      signal: abort.signal,
    });
    report("training", await check(training, { seconds }));
    abort.abort();
    await run.catch(() => {});
    await trainer.end();
    await Deno.remove(runs, { recursive: true });
  } finally {
    await server.end();
  }
}

/** Checks health a hundred times a second; how long each took, in milliseconds. */
async function check(address: string, { seconds }: { readonly seconds: number }) {
  const client = grpcClient(Health, address);
  // The first call also makes the connection.
  await client.check({ service: "" });
  const took: number[] = [];
  for (const end = performance.now() + 1000 * seconds; performance.now() < end;) {
    const begun = performance.now();
    await client.check({ service: "" });
    took.push(performance.now() - begun);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  client.close();
  return took.sort((a, b) => a - b);
}

function report(name: string, sorted: readonly number[]): void {
  const at = (part: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? NaN).toFixed(1);
  console.log(
    `${name.padEnd(44)} p50 ${at(0.5)} ms  p99 ${at(0.99)} ms  max ${at(1)} ms  (${sorted.length})`,
  );
}

/** Keeps two requests for value and gradient at a server until this process is ended. */
async function ask(load: string): Promise<void> {
  const [address = "", side = 0, count = 0] = load.split(" ").map((word, i) =>
    i ? Number(word) : word
  );
  const shape = [Number(count), 3, Number(side), Number(side)];
  const pixels = Float32Array.from(
    { length: shape.reduce((a, b) => a * b) },
    (_, i) => i % 251 / 250,
  );
  const tensor = { dtype: DataType.FLOAT32, shape, data: new Uint8Array(pixels.buffer) };
  const client = grpcClient(RewardService, String(address));
  const one = async () => {
    const images = [{ source: { case: "tensor" as const, value: tensor } }];
    await client.scoreAndGradient({ images, prompts: ["a fox, and books"] });
  };
  await one();
  console.log("{}");
  await Promise.all([1, 2].map(async () => {
    while (true) await one();
  }));
}
