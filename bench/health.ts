/**
 * How long a health check takes while a reward server computes, while large messages arrive as fast as they can be
 * made, and while a trainer trains:
 *
 *     deno task health --seconds 60 [--case session]... [--folder FOLDER]
 *
 * "session" needs a reward of true size: `deno task random-model --kind aesthetic --out FOLDER`. Load and checks come
 * from processes of their own, and the one that checks runs before all others where the system allows it: what it would
 * wait for a core itself is not the server's time.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { getPriority, setPriority } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import {
  DataType,
  Health,
  RewardService,
  type RunConfigSchema,
  RunState,
  TrainerService,
} from "../proto/mod.ts";
import { grpcClient } from "../services/rpc/mod.ts";
import { Victim } from "../tests/fault/mod.ts";

/** Milliseconds a check is to take less than. */
const LIMIT = 20;
/** Niceness. */
const HIGHEST = -20;

type RunConfig = MessageInitShape<typeof RunConfigSchema>;
/** A run that does not end, on one reward. */
const endless = (endpoint: string) => ({
  prompts: { source: { case: "list" as const, value: { prompts: ["a fox, and books"] } } },
  rewards: [{ name: "clip", endpoint }],
  iterations: 1_000_000,
});
/** Options of a reward server whose reward is small. */
const TINY = ["--reward", '{"kind":"clip","weights":"zoo/rewards/clip"}'];

/** What checks are made beside. */
const CASES: Readonly<Record<string, (seconds: number) => Promise<void>>> = {
  idle: (seconds) => besides({ server: TINY }, { name: "nothing", seconds }),
  session: async (seconds) => {
    const folder = resolve(values.folder);
    const record = join(folder, "reward.json");
    if (!existsSync(record)) {
      console.log(`session: left out, there is no reward in ${folder}`);
      return;
    }
    const config = join(folder, "health.json");
    const rewards = [JSON.parse(await Deno.readTextFile(record))];
    await Deno.writeTextFile(config, JSON.stringify({ rewards, cacheDir: "cache" }));
    await besides(
      { server: ["--config", config], load: { side: 512, images: 1 } },
      { name: "ViT-L computes, 3 MB messages (1 x 512x512)", seconds },
    );
  },
  // As `deno task demo` does: the embedded model, on all cores.
  training: (seconds) => {
    const config = (endpoint: string): RunConfig => ({
      ...endless(endpoint),
      model: "pipeline",
      sampler: { kind: "ddpm", steps: 10 },
      method: { name: "drtune", k: 2, m: 4 },
      guidance: { scale: 5 },
      lora: { rank: 16 },
      batch: { size: 8 },
      sampleEvery: 5,
      checkpointEvery: 5,
    });
    return training({ model: "zoo", config }, { name: "training of the embedded model", seconds });
  },
  // Hardly any computing, so all the more of everything else: a hundred steps a second, pictures, checkpoints.
  "tiny-training": (seconds) => {
    const config = (endpoint: string): RunConfig => ({
      ...endless(endpoint),
      model: "tiny-sd",
      sampler: { kind: "ddpm", steps: 4 },
      method: { name: "drtune", k: 2, m: 2 },
      lora: { rank: 2 },
      batch: { size: 2 },
      latentHeight: 8,
      latentWidth: 8,
      sampleEvery: 3,
      checkpointEvery: 2,
    });
    return training({ model: "tests/golden", config }, {
      name: "training of a model of a few weights",
      seconds,
    });
  },
  flood: (seconds) =>
    besides(
      { server: TINY, load: { side: 512, images: 1 } },
      { name: "flood of 3 MB messages (1 x 512x512)", seconds },
    ),
  "large-flood": (seconds) =>
    besides(
      { server: TINY, load: { side: 1024, images: 4 } },
      { name: "flood of 50 MB messages (4 x 1024x1024)", seconds },
    ),
};

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    case: { type: "string", multiple: true, default: Object.keys(CASES) },
    folder: { type: "string", default: ".cache/health/aesthetic" },
    /** Set in the process that makes the load: "host:port", image side and images a message. */
    load: { type: "string" },
  },
});
if (values.load === undefined) {
  for (const name of values.case) {
    const run = CASES[name];
    if (run === undefined) {
      console.error(`--case is ${name}, expected ${Object.keys(CASES).join(", ")}`);
      process.exit(2);
    }
    await run(Number(values.seconds));
  }
} else await ask(values.load);

/** Checks a reward server while two clients that never pause ask for value and gradient. */
async function besides(
  { server: options, load }: {
    readonly server: readonly string[];
    readonly load?: { readonly side: number; readonly images: number };
  },
  { name, seconds }: { readonly name: string; readonly seconds: number },
): Promise<void> {
  const server = new Victim("services/reward/main.ts", [...options, "--port", "0"]);
  try {
    const { address } = await server.ready;
    const clients = load && new Victim("bench/health.ts", [
      ...["--load", `${address} ${load.side} ${load.images}`],
    ]);
    await clients?.ready;
    report(name, await check(address, { seconds }));
    await clients?.end();
  } finally {
    await server.end();
  }
}

/** Checks a trainer while it trains. */
async function training(
  { model, config }: {
    readonly model: string;
    readonly config: (endpoint: string) => RunConfig;
  },
  { name, seconds }: { readonly name: string; readonly seconds: number },
): Promise<void> {
  const runs = await Deno.makeTempDir({ prefix: "drtune-health-" });
  const server = new Victim("services/reward/main.ts", [...TINY, "--port", "0"]);
  const trainer = new Victim("services/trainer/main.ts", [
    ...["--models", model, "--runs", runs, "--port", "0"],
  ]);
  try {
    const [{ address: endpoint }, { address }] = await Promise.all([server.ready, trainer.ready]);
    const client = grpcClient(TrainerService, address);
    await client.startRun({ runId: "run", config: config(endpoint) });
    report(name, await check(address, { seconds }));
    const { runs: [run] } = await client.listRuns({});
    if (run?.state !== RunState.RUNNING) throw new Error(`The run is ${JSON.stringify(run)}`);
    client.close();
  } finally {
    await Promise.all([trainer.end(), server.end()]);
    await Deno.remove(runs, { recursive: true });
  }
}

/** Checks health nearly a hundred times a second; how long each took, in milliseconds, in ascending order. */
async function check(address: string, { seconds }: { readonly seconds: number }) {
  const client = grpcClient(Health, address);
  // The first call also makes the connection.
  await client.check({ service: "" });
  const took: number[] = [];
  const usual = getPriority();
  prioritize(HIGHEST);
  for (const end = performance.now() + 1000 * seconds; performance.now() < end;) {
    const begun = performance.now();
    await client.check({ service: "" });
    took.push(performance.now() - begun);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  prioritize(usual);
  client.close();
  return took.sort((a, b) => a - b);
}

function prioritize(niceness: number): void {
  try {
    setPriority(niceness);
  } catch {
    // Not allowed.
  }
}

function report(name: string, sorted: readonly number[]): void {
  const at = (part: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? NaN).toFixed(1);
  const late = sorted.filter((ms) => ms >= LIMIT).length;
  console.log(
    `${name.padEnd(44)} p50 ${at(0.5)} ms  p99 ${at(0.99)} ms  max ${at(1)} ms  ` +
      `${late} of ${sorted.length} (${
        (100 * late / sorted.length).toFixed(2)
      } %) ${LIMIT} ms or more`,
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
