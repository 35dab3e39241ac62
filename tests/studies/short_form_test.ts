import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";

const MAIN = fileURLToPath(new URL("../../services/cli/main.ts", import.meta.url));

/** Two methods on symmetry, which needs no weights; a run is an iteration or two. */
const STUDY = `title: Two <methods> in no time
question: Does a study work?
base:
  model: pipeline
  sampler: { kind: ddpm, steps: 3 }
  lora: { rank: 2 }
  batch: { size: 1 }
  prompts: { list: { prompts: [a fox] } }
  heldOutPrompts: { list: { prompts: [a cat, a dog] } }
axes:
  method:
    ReFL: { method: { name: refl, m: 1 } }
    DRTune: { method: { name: drtune, k: 1, m: 1 } }
  reward:
    symmetry: { rewards: [{ name: symmetry }] }
seeds: [0, 1]
budget: 0.2
choose:
  per: [method]
  candidates:
    slow: { optimizer: { learningRate: 1.0e-5 } }
    fast: { optimizer: { learningRate: 1.0e-2 } }
  on: { reward: [symmetry] }
  seeds: [9]
  share: 0.5
  measure: { seed: 70, imagesPerPrompt: 1 }
measure: { seed: 50, imagesPerPrompt: 2 }
plots:
  - { kind: rows, rows: method, panels: reward }
  - { kind: training, curves: method, panels: reward }
`;

const change = z.object({ mean: z.number(), low: z.number(), high: z.number() });
const reportSchema = z.object({
  short: z.string(),
  summary: z.object({
    pictures: z.int(),
    choices: z.array(z.object({ of: z.object({ method: z.string() }), candidate: z.string() })),
    cells: z.array(z.object({
      cell: z.object({ method: z.string(), reward: z.literal("symmetry") }),
      iterations: z.number().min(1),
      compute: z.number().positive(),
      rewards: z.object({ symmetry: z.object({ before: z.number(), after: z.number(), change }) }),
    })),
  }),
});

/** Runs a command to its end, or to Ctrl-C once its log has a line that begins so. */
async function drtune(
  args: readonly string[],
  { interruptAt }: { readonly interruptAt?: string } = {},
): Promise<{ readonly log: string; readonly code: number }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-prompt", "--no-check", MAIN, ...args],
    env: { NO_COLOR: "1" },
    stdout: "null",
    stderr: "piped",
  }).spawn();
  let log = "";
  let isInterrupted = false;
  for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
    log += text;
    if (isInterrupted || interruptAt === undefined || !log.includes(`\n${interruptAt}`)) continue;
    isInterrupted = true;
    child.kill("SIGINT");
  }
  return { code: (await child.status).code, log };
}

Deno.test("a study runs by itself, goes on after Ctrl-C with what is done, and leaves a page that stands alone", async () => {
  const folder = await mkdtemp(join(tmpdir(), "drtune-study-"));
  try {
    const [file, out] = [join(folder, "two.yaml"), join(folder, "out")];
    await writeFile(file, STUDY);
    const words = ["study", file, "--out", out, "--budget", "0.3"];
    const broken = await drtune(words, { interruptAt: "1/2" });
    assert.equal(broken.code, 130, broken.log);
    const results = async () =>
      (await Array.fromAsync(Deno.readDir(join(out, "results")))).map((f) => f.name);
    const [first = "", ...others] = (await results()).filter((name) => name.startsWith("two-"));
    assert.deepEqual(others, [], "the second run was not done");
    const before = await readFile(join(out, "results", first), "utf8");
    const short = await drtune(words);
    assert.equal(short.code, 0, short.log);
    assert.doesNotMatch(short.log, /1\/2 two-/, "the first run is not done again");
    assert.match(short.log, /2\/2 two-drtune/);
    assert.equal(await readFile(join(out, "results", first), "utf8"), before);
    const report: unknown = JSON.parse(await readFile(join(out, "study.json"), "utf8"));
    const { short: said, summary } = reportSchema.parse(report);
    assert.match(said, /^A short form: 0\.3 s/);
    assert.equal(summary.pictures, 2);
    assert.deepEqual(summary.cells.map(({ cell }) => cell.method), ["ReFL", "DRTune"]);
    for (const { rewards: { symmetry } } of summary.cells) {
      assert.ok(Math.abs(symmetry.after - symmetry.before - symmetry.change.mean) < 1e-12);
    }
    const page = await readFile(join(out, "index.html"), "utf8");
    assert.ok(page.includes("Two &lt;methods&gt; in no time"));
    assert.doesNotMatch(page, /<script|(?:src|href)="(?!data:)|url\(/, "asks for nothing");
    for (const name of ["method-by-reward.svg", "training-by-reward.png", "summary.md"]) {
      assert.ok((await stat(join(out, name))).size > 100, name);
    }
    const [head = [], ...lines] = (await readFile(join(out, "results.csv"), "utf8")).trim().split(
      "\n",
    ).map((line) => line.split(","));
    assert.deepEqual(lines.map((cells) => cells[head.indexOf("method")]), ["ReFL", "DRTune"]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
