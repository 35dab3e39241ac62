/**
 * `deno task gpu-report`: the whole programme on a GPU, most important first, in the minutes that there are: PyTorch's
 * golden cases, times and memory beside PyTorch, SDXL in one go. Writes a report, and what each part printed.
 *
 *     deno task gpu-report [--minutes 25] [--out FOLDER] [--only NAME]... [--provider cuda]
 *
 * Parts that are done in `--out` (default .cache/gpu-report) are not repeated, so it goes on where it stopped; what there
 * was no time for is listed as such in its report.md.
 */
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { z } from "zod";
import { pythonPath } from "../tools/mod.ts";

/** A part of the programme. */
interface Part {
  readonly name: string;
  /** What it shows, for the report. */
  readonly title: string;
  /** Words after `deno`. */
  readonly words: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Minutes after which it is given up. */
  readonly minutes: number;
}

/** How a part ended. */
const outcomeSchema = z.object({
  seconds: z.number(),
  /** Exit code; null where it was given up. */
  code: z.number().nullable(),
  /** The last lines it printed. */
  tail: z.string(),
});
type Outcome = z.infer<typeof outcomeSchema>;

/** Lines of a part's output that the report shows. */
const TAIL = 30;
const GOLDENS = [
  "tests/golden",
  "rewards/golden_test.ts",
  "rewards/zoo_test.ts",
  "models/diffusers",
];

const root = fileURLToPath(new URL("..", import.meta.url));
const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "25" },
    out: { type: "string", default: join(root, ".cache/gpu-report") },
    only: { type: "string", multiple: true, default: [] },
    provider: { type: "string", default: "cuda" },
  },
});
const ends = performance.now() + Number(values.minutes) * 60_000;
const parts = programme(values.provider);
const unknown = values.only.filter((name) => !parts.some((part) => part.name === name));
if (unknown.length > 0 || !(Number(values.minutes) > 0)) {
  console.error(
    unknown.length > 0
      ? `--only is ${unknown.join(", ")}, expected some of ${parts.map((p) => p.name).join(", ")}`
      : `--minutes is ${JSON.stringify(values.minutes)}, expected a number above 0`,
  );
  Deno.exit(2);
}
await mkdir(values.out, { recursive: true });
const machine = await describeMachine();
const wanted = parts.filter(({ name }) => values.only.length === 0 || values.only.includes(name));
for (const part of wanted) {
  if (await outcomeOf(part) !== undefined) continue;
  const left = (ends - performance.now()) / 60_000;
  if (left < Math.min(1, part.minutes)) break;
  console.error(`${part.name}: ${part.title} (${left.toFixed(0)} min left)`);
  await run(part, Math.min(left, part.minutes));
  await writeFile(join(values.out, "report.md"), await report());
}
await writeFile(join(values.out, "report.md"), await report());
console.log(join(values.out, "report.md"));

function programme(provider: string): readonly Part[] {
  const test = (words: readonly string[]) => ["test", "--allow-all", "--no-check", ...words];
  const bench = (...words: string[]) => [
    ...["run", "--allow-all", "--no-check", "bench/main.ts"],
    ...["--provider", provider, ...words],
  ];
  const both = ["--mode", "forward", "--mode", "gradient", "--repeat", "3"];
  const half = ["--precision", "float16", "--torch", "bfloat16", ...both];
  const env = { DRTUNE_TEST_PROVIDER: provider };
  return [
    {
      name: "goldens",
      title: "PyTorch's float64 cases in float32, with the processor's tolerances",
      words: test(GOLDENS),
      env,
      minutes: 4,
    },
    {
      name: "sd15-half",
      title: "SD 1.5's U-Net, float16 beside PyTorch's bfloat16",
      words: bench("--case", "sd15", ...half),
      minutes: 2,
    },
    {
      name: "sd15",
      title: "SD 1.5's U-Net in float32",
      words: bench("--case", "sd15", ...both),
      minutes: 2,
    },
    {
      name: "vae",
      title: "SD's VAE decoder in float32",
      words: bench("--case", "vae", ...both),
      minutes: 2,
    },
    {
      name: "sd15-iteration",
      title: "A DRTune iteration of SD 1.5, batch 8, T 50, K 5, float16 beside bfloat16",
      words: bench("--case", "sd15-iteration", "--repeat", "2", ...half.slice(0, 4)),
      minutes: 5,
    },
    {
      name: "sdxl-step",
      title:
        "A DRTune step of SDXL at 1024x1024, K 3, T 25, float16, the decoder's gradient included",
      words: [
        ...["run", "--allow-all", "--no-check", "bench/sdxl_step.ts", "--provider", provider],
      ],
      minutes: 5,
    },
    {
      name: "hpsv2",
      title: "HPS v2.1, 32 images, beside PyTorch's float16",
      words: bench("--case", "hpsv2-32", "--torch", "float16", "--repeat", "5"),
      minutes: 3,
    },
    {
      name: "sd35",
      title: "SD 3.5 medium's transformer, float16 beside bfloat16",
      words: bench("--case", "sd35", ...half),
      minutes: 4,
    },
    {
      name: "sdxl-iteration",
      title: "A DRTune iteration of SDXL, batch 2, T 25, K 3, float16 beside bfloat16",
      words: bench("--case", "sdxl-iteration", "--repeat", "1", ...half.slice(0, 4)),
      minutes: 6,
    },
    ...Array.from({ length: 9 }, (_, i) => ({
      name: `goldens-${i + 2}`,
      title: `PyTorch's cases, time ${i + 2} of 10`,
      words: test(GOLDENS),
      env,
      minutes: 4,
    })),
  ];
}

/** Runs a part until it ends or its time does; what it prints goes into a file. */
async function run(part: Part, minutes: number): Promise<void> {
  const begun = performance.now();
  const log = await Deno.open(logOf(part), { write: true, create: true, truncate: true });
  const child = new Deno.Command(Deno.execPath(), {
    args: [...part.words],
    cwd: root,
    env: { NO_COLOR: "1", ...part.env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let isGivenUp = false;
  const timer = setTimeout(() => {
    isGivenUp = true;
    child.kill("SIGTERM");
  }, minutes * 60_000);
  const keep = async (stream: ReadableStream<Uint8Array>) => {
    for await (const chunk of stream) await log.write(chunk);
  };
  await Promise.all([keep(child.stdout), keep(child.stderr)]);
  const { code } = await child.status;
  clearTimeout(timer);
  log.close();
  const printed = (await readFile(logOf(part), "utf8")).trimEnd().split("\n");
  const outcome: Outcome = {
    seconds: (performance.now() - begun) / 1000,
    code: isGivenUp ? null : code,
    tail: printed.slice(-TAIL).join("\n"),
  };
  await writeFile(outcomeFile(part), JSON.stringify(outcome));
}

async function outcomeOf(part: Part): Promise<Outcome | undefined> {
  if (!existsSync(outcomeFile(part))) return undefined;
  return outcomeSchema.parse(JSON.parse(await readFile(outcomeFile(part), "utf8")));
}

function outcomeFile({ name }: Part): string {
  return join(values.out, `${name}.json`);
}

function logOf({ name }: Part): string {
  return join(values.out, `${name}.log`);
}

/** The machine and the versions of all that computes, a line each. */
async function describeMachine(): Promise<readonly string[]> {
  const said = async (program: string, ...args: string[]) => {
    try {
      const { stdout } = await new Deno.Command(program, { args, stderr: "null" }).output();
      return new TextDecoder().decode(stdout).trim() || "does not answer";
    } catch {
      return "is not there";
    }
  };
  const runtime = fileURLToPath(import.meta.resolve("onnxruntime-node"));
  const torch =
    "import torch; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version())";
  return [
    `GPU, driver, memory: ${await said(
      "nvidia-smi",
      "--query-gpu=name,driver_version,memory.total",
      "--format=csv,noheader",
    )}`,
    `Deno ${Deno.version.deno}; ONNX Runtime ${
      /onnxruntime-node@([\d.]+)/.exec(runtime)?.[1] ?? "unknown"
    }`,
    `PyTorch, its CUDA and cuDNN: ${await said(await pythonPath(), "-c", torch)}`,
    `Processor cores: ${navigator.hardwareConcurrency}`,
  ];
}

async function report(): Promise<string> {
  const lines = [
    `# Report of ${new Date().toISOString().slice(0, 10)}`,
    "",
    ...machine.map((m) => `- ${m}`),
  ];
  const missing: string[] = [];
  for (const part of parts) {
    const outcome = await outcomeOf(part);
    if (outcome === undefined) {
      missing.push(`- ${part.name}: ${part.title}`);
      continue;
    }
    const how = outcome.code === null ? "given up" : outcome.code === 0 ? "done" : "failed";
    lines.push(
      "",
      `## ${part.title}`,
      "",
      `${how} after ${outcome.seconds.toFixed(0)} s: \`deno ${part.words.join(" ")}\``,
      "",
      "```text",
      outcome.tail,
      "```",
    );
  }
  if (missing.length > 0) lines.push("", "## Not run, for want of time", "", ...missing);
  return `${lines.join("\n")}\n`;
}
