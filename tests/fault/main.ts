/**
 * The long fault tests: `deno task fault --kills 50 --swaps 200 --failed-loads 100`. The same ones run in the test suite,
 * a few times each. `deno task fault --kills 0 --swaps 0 --failed-loads 0 --cluster 200` kills workers, trainers and NATS
 * of a cluster; it needs nats-server. With `--state FOLDER` kills, swaps and failed loads go on where an ended call left
 * off. With `--no-trim` servers keep garbage as long as V8 likes, and memory is only told. Ends with 1 where memory grows, and when anything else is not as it should be.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { killReward } from "./kill_reward.ts";
import { type KillOptions, killTrainer } from "./kill_trainer.ts";
import { killCluster } from "../cluster/mod.ts";
import { median } from "../support/mod.ts";
import { failedLoads } from "./failed_loads.ts";
import type { LoadOptions, LoadReport } from "./_load_often.ts";
import { swapUnderLoad } from "./swap_under_load.ts";

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "50" },
    swaps: { type: "string", default: "200" },
    "failed-loads": { type: "string", default: "100" },
    clients: { type: "string", default: "16" },
    cluster: { type: "string", default: "0" },
    seed: { type: "string", default: "1" },
    state: { type: "string" },
    "no-trim": { type: "boolean", default: false },
  },
});
const [kills, swaps, failed, clients, cluster, seed] = [
  Number(values.kills),
  Number(values.swaps),
  Number(values["failed-loads"]),
  Number(values.clients),
  Number(values.cluster),
  Number(values.seed),
];
const counts = { kills, swaps, "failed-loads": failed, clients, cluster, seed };
for (const [name, n] of Object.entries(counts)) {
  if (!Number.isInteger(n) || n < 0) {
    console.error(`Option --${name} is not a whole number of 0 or more`);
    Deno.exit(2);
  }
}
/** Between two lines of progress, in milliseconds. Thousands of them would be a wall. */
const EVERY_MS = 2000;
let said = -Infinity;
const say = (line: string) => {
  if (performance.now() - said < EVERY_MS) return;
  said = performance.now();
  console.log(`  ${line}`);
};

/** Does work in a folder of its own and prints what came of it. */
async function report(name: string, work: (folder: string) => Promise<string>): Promise<void> {
  const begun = performance.now();
  const folder = values.state === undefined
    ? await Deno.makeTempDir({ prefix: "drtune-fault-" })
    : join(values.state, name);
  await mkdir(folder, { recursive: true });
  const result = await work(folder);
  if (values.state === undefined) await Deno.remove(folder, { recursive: true });
  console.log(`${result} (${((performance.now() - begun) / 1000).toFixed(0)} s)`);
}

/** Of `kills`, how many each gets: a trainer's process is the one that has something to lose. */
const KILLS: readonly {
  readonly what: string;
  readonly share: number;
  readonly kill: (options: KillOptions) => Promise<string>;
}[] = [
  { what: "trainer", share: 0.5, kill: killTrainer },
  { what: "reward", share: 0.25, kill: killReward },
  { what: "reward-tls", share: 0.25, kill: (o) => killReward({ ...o, overTls: true }) },
];
const told = new AbortController();
const tell = () => told.abort();
for (const name of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(name, tell);
// Side by side: most of the time each waits for a process to start.
await Promise.all(KILLS.map(async ({ what, share, kill }) => {
  const count = Math.ceil(share * kills);
  if (count === 0) return;
  await report(what, async (folder) => {
    const spread = await kill({
      ...{ kills: count, seed, folder, signal: told.signal },
      say: (line) => say(`${what}: ${line}`),
    });
    return `kill -9 of ${what} (${spread}): every LoRA as undisturbed`;
  });
}));

let isFaulty = false;
/** Loads a reward again and again; a state's folder holds what earlier calls did. */
async function load(
  name: string,
  { what, count, work }: {
    readonly what: string;
    readonly count: number;
    readonly work: (options: LoadOptions) => Promise<LoadReport>;
  },
): Promise<void> {
  if (count === 0 || told.signal.aborted) return;
  await report(name, async (folder) => {
    const { loads, answered, underWay, memory, faults } = await work({
      ...{ count, clients, folder, say, signal: told.signal },
      trims: !values["no-trim"],
    });
    if (faults.length > 0) isFaulty = true;
    return [
      `${loads} ${what} under ${clients} clients: 0 of ${answered} requests failed, at ${underWay} one or more were under ` +
      `way; ${memory}`,
      ...faults.map((fault) => `Fault: ${fault}`),
    ].join("\n");
  });
}
await load("swaps", { what: "swaps", count: swaps, work: swapUnderLoad });
await load("failed-loads", { what: "failed loads", count: failed, work: failedLoads });
if (told.signal.aborted) Deno.exit(130);

if (cluster > 0) {
  const killing = report("cluster", async (folder) => {
    const [trainers, nats] = [Math.ceil(cluster / 10), Math.ceil(cluster / 20)];
    const { runs, takeovers, ended } = await killCluster({
      ...{ workers: cluster, trainers, nats, seed, folder, say, signal: told.signal },
      size: 3,
      every: 12,
    });
    return `${cluster} kill -9 of workers, ${trainers} of the trainer that leads, ${nats} of NATS in ${runs} runs: every LoRA as ` +
      `undisturbed; another trainer led after ${median(takeovers).toFixed(1)} s, at most ` +
      `${takeovers.at(-1)?.toFixed(1)} s; ${ended} processes ended by themselves`;
  });
  await killing.catch((error) => {
    if (told.signal.aborted) Deno.exit(130);
    throw error;
  });
}
for (const name of ["SIGINT", "SIGTERM"] as const) Deno.removeSignalListener(name, tell);

if (isFaulty) Deno.exit(1);
