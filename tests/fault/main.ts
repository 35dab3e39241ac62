/**
 * The long fault tests: `deno task fault --kills 50 --swaps 200`. The same ones run in the test suite, a few times each.
 * `deno task fault --kills 0 --swaps 0 --cluster 200` kills workers, trainers and NATS of a cluster; it needs nats-server.
 */
import { parseArgs } from "node:util";
import { killReward } from "./kill_reward.ts";
import { killTrainer } from "./kill_trainer.ts";
import { killCluster } from "../cluster/mod.ts";
import { swapUnderLoad } from "./swap_under_load.ts";

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "50" },
    swaps: { type: "string", default: "200" },
    clients: { type: "string", default: "16" },
    cluster: { type: "string", default: "0" },
    seed: { type: "string", default: "1" },
  },
});
const [kills, swaps, clients, cluster, seed] = [
  Number(values.kills),
  Number(values.swaps),
  Number(values.clients),
  Number(values.cluster),
  Number(values.seed),
];
for (const [name, n] of Object.entries({ kills, swaps, clients, cluster, seed })) {
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
async function report(work: (folder: string) => Promise<string>): Promise<void> {
  const begun = performance.now();
  const folder = await Deno.makeTempDir({ prefix: "drtune-fault-" });
  const result = await work(folder);
  await Deno.remove(folder, { recursive: true });
  console.log(`${result} (${((performance.now() - begun) / 1000).toFixed(0)} s)`);
}

for (const [name, kill] of Object.entries({ trainer: killTrainer, "reward server": killReward })) {
  if (kills === 0) continue;
  await report(async (runs) => {
    const count = await kill({ kills, seed, runs, say });
    return `${kills} kill -9 of the ${name} in ${count} runs: every LoRA as undisturbed`;
  });
}

if (swaps > 0) {
  await report(async (folder) => {
    const { answered, resident } = await swapUnderLoad({ swaps, clients, folder, say });
    // Single readings differ by what a process has not collected yet.
    const tens = Array.from({ length: Math.floor(swaps / 10) }, (_, i) => {
      return median(resident.slice(10 * i, 10 * i + 10));
    });
    const [, usual = NaN, ...later] = tens;
    const percent = (mib: number) => `${(100 * (mib / usual - 1)).toFixed(1)} %`;
    const range = (of: readonly number[]) =>
      `${percent(Math.min(...of))} to ${percent(Math.max(...of))}`;
    return `${swaps} swaps under ${clients} clients: 0 of ${answered} requests failed; median of resident memory over ` +
      `the ten swaps after the tenth ${usual.toFixed(0)} MiB, over each ten since ${
        range(later)
      }, single readings ` +
      range(resident.slice(20));
  });
}

if (cluster > 0) {
  await report(async (folder) => {
    const [trainers, nats] = [Math.ceil(cluster / 10), Math.ceil(cluster / 20)];
    const { runs, takeovers, ended } = await killCluster({
      ...{ workers: cluster, trainers, nats, seed, folder, say },
      size: 3,
      every: 12,
    });
    return `${cluster} kill -9 of workers, ${trainers} of the trainer that leads, ${nats} of NATS in ${runs} runs: every LoRA as ` +
      `undisturbed; another trainer led after ${median(takeovers).toFixed(1)} s, at most ` +
      `${takeovers.at(-1)?.toFixed(1)} s; ${ended} processes ended by themselves`;
  });
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}
