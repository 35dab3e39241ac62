/**
 * `deno task bench`: side by side with PyTorch in one run, on the same threads, run by run in turn, each side in a
 * process of its own. Prints medians, their ratio (ours / PyTorch), the largest difference between the results of both,
 * each process's peak of resident memory, and how long loading took: from the files to the first result, less the run
 * after it.
 *
 *     deno task bench [--case clip]... [--mode gradient] [--repeat 5] [--threads N] [--json] [--cache FOLDER]
 *
 * On a machine that is shared, give `--threads 1` and look at the ratio of CPU times.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openSafetensors } from "../models/weights/mod.ts";
import { ENGINE_ENV } from "../runtime/mod.ts";
import { pythonPath } from "../tools/mod.ts";
import { type BenchCase, CASES, DEFAULT_CASES, type Mode, MODES } from "./cases.ts";
import { type Answer, LineProcess } from "./line_process.ts";

/** Medians of one case in one mode. */
interface Result {
  readonly case: string;
  readonly mode: Mode;
  readonly threads: number;
  readonly seconds: Pair;
  readonly cpuSeconds: Pair;
  /** CPU seconds from the files to the first result, less the run after it. */
  readonly loadCpuSeconds: Pair;
  readonly peakMb: Pair;
  /** Largest difference of any value or gradient, relative to the largest value of its tensor. */
  readonly difference: number;
}
interface Pair {
  readonly ours: number;
  readonly torch: number;
  readonly ratio: number;
}

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const PEER = here("python/peer.py");
/** A reward packs its weights before its third run. */
const REWARD_WARM_UPS = 3;
/** Progress and reports of the peer's libraries hide our own. */
const QUIET = { TRANSFORMERS_VERBOSITY: "error", TQDM_DISABLE: "1", HF_HUB_OFFLINE: "1" };

const { values } = parseArgs({
  options: {
    case: { type: "string", multiple: true, default: [...DEFAULT_CASES] },
    mode: { type: "string", multiple: true, default: ["gradient"] },
    repeat: { type: "string", default: "5" },
    threads: { type: "string", default: String(availableParallelism()) },
    cache: { type: "string", default: here("../.cache/bench") },
    json: { type: "boolean", default: false },
  },
});
const modes = MODES.filter((mode) => values.mode.includes(mode));
const unknown = [
  ...values.case.filter((name) => !(name in CASES)),
  ...values.mode.filter((name) => !MODES.some((mode) => mode === name)),
];
if (unknown.length > 0) {
  const known = [...Object.keys(CASES), ...MODES].join(", ");
  console.error(`Unknown case or mode ${unknown.join(", ")}, expected some of ${known}`);
  Deno.exit(2);
}

const python = await pythonPath();
for (const name of values.case) {
  const bench = CASES[name];
  if (bench === undefined) continue;
  const folder = await prepared(name, bench);
  for (const mode of modes) {
    if (bench.kind === "iteration" && mode === "forward") continue;
    const result = await measure({ name, bench, folder, mode });
    console.log(values.json ? JSON.stringify(result) : report(bench, result));
  }
}

/** The folder of a case's weights and inputs, written where this description of it has none yet. */
async function prepared(name: string, bench: BenchCase): Promise<string> {
  const json = JSON.stringify(bench);
  const digest = createHash("sha256").update(json).digest("hex").slice(0, 8);
  const folder = join(values.cache, `${name}-${digest}`);
  if (existsSync(`${folder}/inputs.safetensors`)) return folder;
  await mkdir(folder, { recursive: true });
  console.error(`Writing random weights and inputs to ${folder}`);
  if (bench.kind === "reward") {
    await ran(Deno.execPath(), [
      "run",
      "--allow-all",
      here("../tools/random_model.ts"),
      "--kind",
      bench.reward,
      "--out",
      `${folder}/model`,
    ]);
  }
  await ran(python, [PEER, "prepare", folder, json]);
  return folder;
}

async function ran(command: string, args: string[]): Promise<void> {
  const { success } = await new Deno.Command(command, { args, env: QUIET }).spawn().status;
  if (!success) throw new Error(`${command} ${args.join(" ")} failed`);
}

async function measure({ name, bench, folder, mode }: {
  name: string;
  bench: BenchCase;
  folder: string;
  mode: Mode;
}): Promise<Result> {
  const args = [folder, JSON.stringify(bench), mode, values.threads];
  const ours = await LineProcess.start(Deno.execPath(), [
    "run",
    "--allow-all",
    here("ours.ts"),
    ...args,
  ], ENGINE_ENV);
  const torch = await LineProcess.start(python, [PEER, "serve", ...args], QUIET);
  const warmUps = bench.kind === "reward" ? REWARD_WARM_UPS : 1;
  const all: { ours: Run; torch: Run }[] = [];
  for (let i = 1 - warmUps; i <= Number(values.repeat); i++) {
    const pair = { ours: await once(ours), torch: await once(torch) };
    all.push(pair);
    const shown = `ours ${pair.ours.seconds.toFixed(3)} s, PyTorch ${
      pair.torch.seconds.toFixed(3)
    } s`;
    console.error(`${name} ${mode} ${i < 1 ? "warm-up" : i}: ${shown}`);
  }
  const runs = all.slice(warmUps);
  const loading = (side: "ours" | "torch", { first }: LineProcess) =>
    cpuOf(first) + (all[0]?.[side].cpuSeconds ?? NaN) - (all[1]?.[side].cpuSeconds ?? NaN);
  const files = { ours: `${folder}/ours.safetensors`, torch: `${folder}/torch.safetensors` };
  await ours.ask(`save ${files.ours}`);
  await torch.ask(`save ${files.torch}`);
  const peak = async (side: LineProcess) => (await side.ask("memory")).peakMb ?? NaN;
  const peakMb = pairOf(await peak(ours), await peak(torch));
  await Promise.all([ours.end(), torch.end()]);
  const medians = (of: (run: Run) => number) =>
    pairOf(median(runs.map((r) => of(r.ours))), median(runs.map((r) => of(r.torch))));
  const cpuSeconds = medians((run) => run.cpuSeconds);
  return {
    case: name,
    mode,
    threads: Number(values.threads),
    seconds: medians((run) => run.seconds),
    cpuSeconds,
    loadCpuSeconds: pairOf(loading("ours", ours), loading("torch", torch)),
    peakMb,
    difference: await largestDifference(files.ours, files.torch),
  };
}

interface Run {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

function cpuOf({ cpuSeconds = NaN }: Answer): number {
  return cpuSeconds;
}

async function once(side: LineProcess): Promise<Run> {
  const { seconds = NaN, cpuSeconds = NaN } = await side.ask("run");
  return { seconds, cpuSeconds };
}

function pairOf(ours: number, torch: number): Pair {
  return { ours, torch, ratio: ours / torch };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

async function largestDifference(ours: string, torch: string): Promise<number> {
  const [a, b] = [openSafetensors(ours), openSafetensors(torch)];
  let worst = 0;
  for (const name of b.tensors.keys()) {
    const [x, y] = [await a.readFloat32(name), await b.readFloat32(name)];
    let [apart, largest] = [0, 0];
    for (const [i, v] of y.data.entries()) {
      apart = Math.max(apart, Math.abs((x.data[i] ?? NaN) - v));
      largest = Math.max(largest, Math.abs(v));
    }
    worst = Math.max(worst, apart / largest);
  }
  return worst;
}

function report({ title }: BenchCase, { mode, threads, ...result }: Result): string {
  const { seconds, cpuSeconds, loadCpuSeconds, peakMb, difference } = result;
  const line = (what: string, { ours, torch, ratio }: Pair, unit: string, digits: number) =>
    `  ${what.padEnd(12)} ours ${ours.toFixed(digits)} ${unit}, PyTorch ${
      torch.toFixed(digits)
    } ${unit}: ratio ${ratio.toFixed(2)}`;
  return [
    `${title}: ${mode === "forward" ? "value" : "value and gradient"}`,
    line("time", seconds, "s", 3) + ` (${threads} threads, medians of ${values.repeat})`,
    line("CPU time", cpuSeconds, "s", 3),
    line("loading", loadCpuSeconds, "s", 1) + " (CPU time)",
    line("peak memory", peakMb, "MB", 0),
    `  largest difference ${difference.toExponential(1)} of the largest value`,
  ].join("\n");
}
