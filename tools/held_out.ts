/**
 * `deno task held-out [--count N] [--seed N] [--keep FOLDER] [--replay] [--provider cpu]`: random pipelines, training
 * steps and rewards that PyTorch computes in float64 (tests/golden/reference/more_cases.py and more_rewards.py), repeated
 * here and compared tensor by tensor. `--keep` leaves the files, and `--replay` takes those left before.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openSafetensors } from "../models/weights/mod.ts";
import { loadReward } from "../rewards/mod.ts";
import { openEngine } from "../runtime/mod.ts";
import { type Float32Tensor, openTraceModel, readTraceCase, trace } from "../trainer/mod.ts";
import { providerOption } from "./_provider_option.ts";
import { pythonPath } from "./python_env.ts";

/** Largest differences allowed; of a tensor's own largest value, but for scores. */
const TOLERANCE = { value: 5e-5, grad: 5e-4, score: 2e-5, gradient: 2e-4 };
type Kind = keyof typeof TOLERANCE;
type Worst = Partial<Record<Kind, { readonly error: number; readonly name: string }>>;

const { values: args } = parseArgs({
  options: {
    count: { type: "string", default: "20" },
    seed: { type: "string", default: `${Date.now() % 1e6}` },
    keep: { type: "string" },
    replay: { type: "boolean", default: false },
    provider: { type: "string", default: "cpu" },
  },
});
const provider = providerOption(args.provider);
const folder = args.keep ?? await Deno.makeTempDir({ prefix: "drtune-held-out-" });
const engine = await openEngine({ isolation: "in-process" });
const symmetry = await loadReward({ kind: "symmetry", std: "global" }, {
  provider,
  engine,
  selfCheck: false,
});
let failed = 0;
try {
  console.log(
    `Seed ${args.seed}; the largest difference of each kind, relative to its tensor's largest value`,
  );
  for (
    const [what, program, check] of [
      ["steps", "more_cases.py", checkStep],
      ["rewards", "more_rewards.py", checkReward],
    ] as const
  ) {
    if (!args.replay) await generate(program, join(folder, what));
    for (let i = 0; i < Number(args.count); i++) {
      const path = what === "steps"
        ? join(folder, what, "cases", `${i}`)
        : join(folder, what, `${i}`);
      if (!await report(path, check)) failed++;
    }
  }
} finally {
  await symmetry.dispose();
  await engine.close();
  if (args.keep === undefined) await Deno.remove(folder, { recursive: true });
}
console.log(`${2 * Number(args.count) - failed} passed, ${failed} failed`);
Deno.exit(failed === 0 ? 0 : 1);

async function generate(program: string, out: string): Promise<void> {
  const path = new URL(`../tests/golden/reference/${program}`, import.meta.url).pathname;
  const { code } = await new Deno.Command(await pythonPath(), {
    args: [path, out, "--count", args.count, "--seed", args.seed],
    stdout: "null",
    stderr: "inherit",
  }).output();
  if (code !== 0) throw new Error(`${path} ended with ${code}`);
}

async function report(
  path: string,
  check: (path: string, worst: Worst) => Promise<string>,
): Promise<boolean> {
  const worst: Worst = {};
  try {
    const what = await check(path, worst);
    const entries = Object.entries(worst);
    const good = entries.every(([kind, { error }]) => isKind(kind) && error <= TOLERANCE[kind]);
    const found = entries.map(([kind, { error, name }]) =>
      `${kind} ${error.toExponential(1)} ${name}`
    );
    console.log(`${good ? "ok  " : "FAIL"} ${path}  ${what}  ${found.join("  ")}`);
    return good;
  } catch (error) {
    console.log(`FAIL ${path}`, error);
    return false;
  }
}

function isKind(kind: string): kind is Kind {
  return kind in TOLERANCE;
}

function note(
  worst: Worst,
  kind: Kind,
  found: { readonly error: number; readonly name: string },
): void {
  if (!(found.error <= (worst[kind]?.error ?? -1))) worst[kind] = found;
}

async function checkStep(path: string, worst: Worst): Promise<string> {
  const given = await readTraceCase(path);
  const model = await openTraceModel(given, engine, {
    session: { intraOpNumThreads: 1, provider },
  });
  const actual = await trace(given, model, {
    async upstream(images) {
      const { gradient } = await symmetry.score(images, [], { gradient: true });
      if (gradient === undefined) throw new Error("Symmetry answered no gradient");
      return gradient;
    },
  });
  const expected = openSafetensors(join(path, "expected.safetensors"));
  for (const name of expected.tensors.keys()) {
    const error = distance(actual[name], await expected.readFloat32(name));
    note(worst, name.includes("grad") ? "grad" : "value", { error, name });
  }
  const { method, scheduler, T } = given.spec;
  return `${method} ${scheduler.kind} T=${T}`;
}

async function checkReward(path: string, worst: Worst): Promise<string> {
  const config = JSON.parse(await Deno.readTextFile(join(path, "reward.json")));
  const prompts: string[] = JSON.parse(await Deno.readTextFile(join(path, "prompts.json")));
  const image = await openSafetensors(join(path, "images.safetensors")).readFloat32("image");
  const expected = openSafetensors(join(path, "expected.safetensors"));
  const reward = await loadReward(config, {
    provider,
    engine,
    baseDir: path,
    cacheDir: join(path, "cache"),
  });
  try {
    const { scores, gradient } = await reward.score(image, prompts, { gradient: true });
    const truth = await expected.readFloat32("score");
    for (const [i, score] of truth.data.entries()) {
      const error = Math.abs(score - (scores[i] ?? NaN)) / Math.max(1, Math.abs(score));
      note(worst, "score", { error, name: "" });
    }
    const error = distance(gradient, await expected.readFloat32("gradient"));
    note(worst, "gradient", { error, name: "" });
  } finally {
    await reward.dispose();
  }
  return `${JSON.stringify(config)} [${image.shape}]`;
}

function distance(actual: Float32Tensor | undefined, expected: Float32Tensor): number {
  if (actual?.data.length !== expected.data.length) return Infinity;
  let [error, largest] = [0, 0];
  expected.data.forEach((v, i) => {
    const d = Math.abs(v - (actual.data[i] ?? NaN));
    if (!(d <= error)) error = d;
    largest = Math.max(largest, Math.abs(v));
  });
  // What float64 leaves of an exact zero is no scale.
  return largest < 1e-15 ? error : error / largest;
}
