/**
 * `deno task bench`: side by side with PyTorch in one run, on the same threads, run by run in turn, each side in a
 * process of its own; a case that the machine would not hold twice has one side after the other. Prints medians, their ratio (ours / PyTorch), the largest difference between the results of both,
 * each process's peak of resident memory, and how long loading took: from the files to the first result, less the run
 * after it.
 *
 *     deno task bench [--case clip]... [--mode gradient] [--repeat 5] [--threads N] [--json] [--cache FOLDER]
 *                     [--provider cuda] [--precision float16] [--torch bfloat16] [--compile]
 *
 * On a GPU one side runs after the other, so that each has it alone, and memory is the GPU's; `--precision` is what our
 * networks compute in, `--torch` PyTorch's type (it uses SDPA and channels-last convolutions), TF32 is off on both sides.
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
import { ENGINE_ENV, GpuMemory } from "../runtime/mod.ts";
import { pythonPath } from "../tools/mod.ts";
import {
  type BenchCase,
  type BenchPlace,
  CASES,
  DEFAULT_CASES,
  GPU_CASES,
  type Mode,
  MODES,
} from "./cases.ts";
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

const SIDES = ["ours", "torch"] as const;
type Side = typeof SIDES[number];
type Pairs<T> = Readonly<Record<Side, T>>;
const NAMES: Pairs<string> = { ours: "ours", torch: "PyTorch" };

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
    provider: { type: "string", default: "cpu" },
    precision: { type: "string", default: "float32" },
    torch: { type: "string", default: "float32" },
    compile: { type: "boolean", default: false },
  },
});
const place = await placeOf();
const isGpu = place.provider === "cuda";
const ALL: Readonly<Record<string, BenchCase>> = { ...CASES, ...GPU_CASES };
const modes = MODES.filter((mode) => values.mode.includes(mode));
const unknown = [
  ...values.case.filter((name) => !(name in ALL)),
  ...values.mode.filter((name) => !MODES.some((mode) => mode === name)),
];
if (unknown.length > 0) {
  const known = [...Object.keys(ALL), ...MODES].join(", ");
  console.error(`Unknown case or mode ${unknown.join(", ")}, expected some of ${known}`);
  Deno.exit(2);
}

const python = await pythonPath();
for (const name of values.case) {
  const bench = ALL[name];
  if (bench === undefined) continue;
  const folder = await prepared(name, bench);
  for (const mode of modes) {
    if (bench.kind === "iteration" && mode === "forward") continue;
    const result = await measure({ name, bench, folder, mode });
    console.log(values.json ? JSON.stringify(result) : report(bench, result));
  }
}

/** What the options say of where both sides compute. Ends the process with 2 where they are wrong. */
async function placeOf(): Promise<BenchPlace> {
  const one = <T extends string>(option: string, found: string, known: readonly T[]): T => {
    const name = known.find((k) => k === found);
    if (name !== undefined) return name;
    console.error(`--${option} is ${JSON.stringify(found)}, expected ${known.join(" or ")}`);
    Deno.exit(2);
  };
  const provider = one("provider", values.provider, ["cpu", "cuda"]);
  const gpu = provider === "cuda" ? await GpuMemory.open() : undefined;
  gpu?.close();
  if (provider === "cuda" && gpu === undefined) {
    console.error("--provider is cuda, and the NVIDIA driver's nvidia-smi does not answer");
    Deno.exit(2);
  }
  return {
    provider,
    ours: one("precision", values.precision, ["float32", "float16"]),
    torch: one("torch", values.torch, ["float32", "float16", "bfloat16"]),
    compile: values.compile,
    threads: Number(values.threads),
    ...(gpu && { memory: Math.floor(0.9 * gpu.total) }),
  };
}

/** The folder of a case's weights and inputs, written where this description of it has none yet. */
async function prepared(name: string, bench: BenchCase): Promise<string> {
  const json = JSON.stringify(bench);
  const digest = createHash("sha256").update(json).digest("hex").slice(0, 8);
  const folder = join(values.cache, `${name}-${digest}`);
  if (existsSync(`${folder}/inputs.safetensors`)) return folder;
  await mkdir(folder, { recursive: true });
  console.error(`Writing random weights and inputs to ${folder}`);
  const written = bench.kind === "reward"
    ? ["--kind", bench.reward]
    : bench.kind === "iteration" && bench.model !== undefined
    ? ["--kind", bench.model, "--dtype", "fp16"]
    : undefined;
  if (written !== undefined) {
    const tool = here("../tools/random_model.ts");
    await ran(Deno.execPath(), ["run", "-A", tool, ...written, "--out", `${folder}/model`]);
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
  const args = [folder, JSON.stringify(bench), mode, JSON.stringify(place)];
  const start: Pairs<() => Promise<LineProcess>> = {
    ours: () =>
      LineProcess.start(
        Deno.execPath(),
        ["run", "--allow-all", here("ours.ts"), ...args],
        ENGINE_ENV,
      ),
    torch: () => LineProcess.start(python, [PEER, "serve", ...args], QUIET),
  };
  const files = { ours: `${folder}/ours.safetensors`, torch: `${folder}/torch.safetensors` };
  const warmUps = bench.kind === "reward" ? REWARD_WARM_UPS : 1;
  /** Runs sides in turn, each started before the first run and ended after the last. */
  const inTurn = async (sides: readonly Side[]): Promise<Partial<Pairs<Measured>>> => {
    const gpu = isGpu ? await GpuMemory.open() : undefined;
    const processes = new Map<Side, LineProcess>();
    for (const side of sides) processes.set(side, await start[side]());
    const runs = new Map(sides.map((side): [Side, Run[]] => [side, []]));
    for (let i = 1 - warmUps; i <= Number(values.repeat); i++) {
      for (const [side, process] of processes) {
        const run = await once(process);
        runs.get(side)?.push(run);
        const what = `${name} ${mode} ${i < 1 ? "warm-up" : i}`;
        console.error(`${what}: ${NAMES[side]} ${run.seconds.toFixed(3)} s`);
      }
    }
    const out: Partial<Record<Side, Measured>> = {};
    for (const [side, process] of processes) {
      await process.ask(`save ${files[side]}`);
      const { peakMb = NaN } = await process.ask("memory");
      const all = runs.get(side) ?? [];
      const [first, second] = all;
      out[side] = {
        runs: all.slice(warmUps),
        peakMb: gpu === undefined ? peakMb : gpu.peak / 2 ** 20,
        loadCpuSeconds: cpuOf(process.first) + (first?.cpuSeconds ?? NaN) -
          (second?.cpuSeconds ?? NaN),
      };
    }
    await Promise.all([...processes.values()].map((process) => process.end()));
    gpu?.close();
    return out;
  };
  const { ours, torch } = bench.apart || isGpu
    ? { ...await inTurn(["ours"]), ...await inTurn(["torch"]) }
    : await inTurn(SIDES);
  if (ours === undefined || torch === undefined) throw new TypeError("Both sides are measured");
  const pair = (of: (measured: Measured) => number) => pairOf(of(ours), of(torch));
  return {
    case: name,
    mode,
    threads: Number(values.threads),
    seconds: pair(({ runs }) => median(runs.map(({ seconds }) => seconds))),
    cpuSeconds: pair(({ runs }) => median(runs.map(({ cpuSeconds }) => cpuSeconds))),
    loadCpuSeconds: pair(({ loadCpuSeconds }) => loadCpuSeconds),
    peakMb: pair(({ peakMb }) => peakMb),
    difference: await largestDifference(files.ours, files.torch),
  };
}

/** What one side took. */
interface Measured {
  readonly runs: readonly Run[];
  readonly peakMb: number;
  readonly loadCpuSeconds: number;
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
    // What the result does not depend on has a gradient of 0 there, and none here.
    const x = a.tensors.has(name) ? (await a.readFloat32(name)).data : undefined;
    const y = (await b.readFloat32(name)).data;
    let [apart, largest] = [0, 0];
    for (const [i, v] of y.entries()) {
      apart = Math.max(apart, Math.abs((x === undefined ? 0 : x[i] ?? NaN) - v));
      largest = Math.max(largest, Math.abs(v));
    }
    worst = Math.max(worst, largest === 0 ? apart : apart / largest);
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
