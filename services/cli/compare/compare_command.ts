import { join, resolve } from "node:path";
import { mkdir, writeFile } from "node:fs/promises";
import type { TrainerService } from "../../../proto/mod.ts";
import type { GrpcClient } from "../../rpc/mod.ts";
import { type Arguments, type Option, UsageError } from "../command.ts";
import { Progress } from "../progress.ts";
import type { TableCell } from "../report/html.ts";
import { ROOT } from "../stack/read_stack.ts";
import { trainerClient } from "../trainer/client.ts";
import { typed } from "../typed.ts";
import { type ComparedPair, comparePairs } from "./compare_pairs.ts";
import { picturesOfSides } from "./compare_sides.ts";
import { comparisonNotes, comparisonTable, writeComparison } from "./comparison_report.ts";
import { type Contestant, contestantOf, withoutTraining } from "./contestants.ts";
import { detectObjects, SEEN } from "./detector.ts";
import { judgesOf } from "./judges_of.ts";
import { type ListedPrompt, readPromptList } from "./prompt_list.ts";
import { readVotes } from "./votes.ts";

/** Options of a comparison of two sides. */
export const COMPARE_OPTIONS = {
  benchmark: {
    type: "string",
    value: "FOLDER",
    help:
      "prompts by category: HPS v2's folder of JSON lists, PartiPrompts' .tsv, GenEval's .jsonl; of one side, against it untrained",
  },
  model: { type: "string", value: "DIR", help: "pipeline of sides that are LoRA files" },
  steps: { type: "string", value: "T", help: "denoising steps of models (default 50, or a run's)" },
  rewards: { type: "string", value: "FILE", help: "records of rewards that judge, in YAML" },
  detector: {
    type: "string",
    value: "DIR",
    help: "an OWL-ViT that looks for the objects of GenEval's prompts (default: the embedded one)",
  },
  votes: {
    type: "string",
    value: "FILE",
    multiple: true,
    help:
      "what a voter saved in the page's blind comparison; one for each: shows win rates and agreement",
  },
  out: {
    type: "string",
    value: "DIR",
    help: "folder for the comparison's page, CSV and pictures (default: comparison)",
  },
} as const satisfies Readonly<Record<string, Option>>;

const STEPS = 50;
/** Prompts of a category that voters are given, as in the paper's user study. */
const VOTED = 100;

/** Compares two sides; `drtune eval A B`. Answers the exit code. */
export async function compareCommand(args: Arguments, signal: AbortSignal): Promise<number> {
  const model = args.text("model");
  const sides = await sidesOf(args.positionals, model);
  let client: Promise<GrpcClient<typeof TrainerService>> | undefined;
  const trainer = () => client ??= trainerClient(args);
  try {
    await using judges = await judgesOf(args, { contestants: sides, trainer, signal });
    const run = sides.find((side) => side.kind === "run");
    const config = run && (await (await trainer()).getRun(
      { runId: run.runId, wholePrompts: true },
      { timeoutMs: 60_000, signal },
    )).run?.config;
    const source = config?.heldOutPrompts?.source;
    const held = source?.case === "list"
      ? source.value.prompts.map((prompt, index) => ({ prompt, index, category: "all" }))
      : undefined;
    const list = args.text("benchmark") ?? args.text("prompts");
    const progress = new Progress({ quiet: args.flag("json") });
    const { wanted, a, b } = await picturesOfSides(sides, {
      listed: list === undefined ? held : await readPromptList(list),
      seed: args.number("seed", { min: 0, max: 2 ** 32 - 1, integer: true }) ?? 1000,
      imagesPerPrompt: args.number("images", { min: 1, max: 64, integer: true }) ?? 1,
      settings: {
        ...{ trainer, config, signal },
        steps: args.number("steps", { min: 1, max: 1000, integer: true }) ?? STEPS,
        onRemark: (text) => progress.say(text),
      },
    });
    const reading = [...judges.rewards.values()].find(({ info }) => info.readsPrompt);
    if (reading !== undefined && wanted.some(({ prompt }) => prompt === "")) {
      throw new UsageError(
        `Reward ${reading.info.name} reads prompts, and pictures of ${
          sides[0].name
        } have none: name them by --prompts, ` +
          "metadata.jsonl or .txt files beside them",
      );
    }
    progress.say(`Judging ${a.length} pairs by ${[...judges.rewards.keys()].join(", ")}`);
    const scored = async (images: readonly Uint8Array[]) => {
      const pictures = images.map((image, i) => ({ image, prompt: wanted[i]?.prompt ?? "" }));
      return await judges.score(pictures, signal);
    };
    const [left, right] = [await scored(a), await scored(b)];
    const objects = wanted.some((entry) => entry.objects !== undefined);
    const detected = objects
      ? await detections(args, { wanted, a, b, signal, progress })
      : undefined;
    const of = (scores: typeof left, i: number) =>
      Object.entries(scores).map(([name, values]) => [name, values[i] ?? NaN] as const);
    const pairs = wanted.map(({ prompt, file = "", category, seed }, i): ComparedPair => ({
      ...{ prompt: prompt || file, category, seed },
      a: Object.fromEntries([...of(left, i), ...detected?.a[i] ?? []]),
      b: Object.fromEntries([...of(right, i), ...detected?.b[i] ?? []]),
    }));
    const isUp = (name: string) => !judges.rewards.has(name) || judges.isUp(name);
    const facts = {
      ...{ a: sides[0].name, b: sides[1].name, pairs, isUp },
      comparisons: comparePairs(pairs, isUp),
      command: typed(`eval ${sides.map(({ name }) => name).join(" ")}`),
      images: a.map((image, i) => ({ a: image, b: b[i] ?? image })),
    };
    const out = resolve(args.text("out") ?? "comparison");
    await writeComparison(out, facts);
    await writeVotersPrompts(out, wanted);
    if (args.flag("json")) console.log(JSON.stringify(facts.comparisons));
    else {
      const { head, rows } = comparisonTable(facts);
      console.log([textTable([head, ...rows]), "", ...comparisonNotes(facts)].join("\n"));
      if (objects) {
        console.log(
          `An object is seen where the detector is ${SEEN} sure; numbers and places are not judged.`,
        );
      }
      console.log(join(out, "index.html"));
    }
    return 0;
  } finally {
    await client?.then((open) => open.close(), () => {});
  }
}

/** Shows what voters said; `drtune eval --votes FILE...`. Answers the exit code. */
export async function showVotes(args: Arguments): Promise<number> {
  const votes = await readVotes(args.list("votes"));
  if (args.flag("json")) {
    console.log(JSON.stringify(votes));
    return 0;
  }
  const percent = (v: number) => Number.isFinite(v) ? `${(100 * v).toFixed(1)} %` : "-";
  const rows = votes.tallies.map(({ category, pairs, wins, winRate, kappa }) => [
    ...[category, String(pairs), `${wins.A} / ${wins.ties} / ${wins.B}`, percent(winRate.share)],
    `${percent(winRate.low)} to ${percent(winRate.high)}`,
    Number.isFinite(kappa) ? kappa.toFixed(3) : "-",
  ]);
  console.log([
    `A: ${votes.contestants.A}, B: ${votes.contestants.B}; ${votes.voters} voters`,
    textTable([
      ["category", "pairs", "A / ties / B", "B's win rate", "95 %", "Fleiss' kappa"],
      ...rows,
    ]),
    "A pair is won by what most voters said. Kappa: 1 is agreement in everything, 0 that of chance.",
  ].join("\n"));
  return 0;
}

async function sidesOf(
  words: readonly string[],
  model: string | undefined,
): Promise<readonly [Contestant, Contestant]> {
  const [first, second, ...more] = await Promise.all(
    words.map((word) => contestantOf(word, { model })),
  );
  if (first === undefined || more.length > 0) {
    throw new UsageError("Name one or two sides to compare");
  }
  if (second !== undefined) return [first, second];
  const before = withoutTraining(first);
  if (before !== undefined) return [before, first];
  throw new UsageError(`${first.name} has nothing untrained to compare it with: name another side`);
}

async function detections(
  args: Arguments,
  { wanted, a, b, signal, progress }: {
    readonly wanted: readonly ListedPrompt[];
    readonly a: readonly Uint8Array[];
    readonly b: readonly Uint8Array[];
    readonly signal: AbortSignal;
    readonly progress: Progress;
  },
) {
  const weights = args.text("detector") ?? join(ROOT, "zoo", "rewards", "owlvit");
  const pictures = [...a, ...b].map((image, i) => ({
    image,
    ...(wanted[i % wanted.length]?.objects && { objects: wanted[i % wanted.length]?.objects }),
  }));
  const found = await detectObjects(weights, pictures, {
    onProgress: (done, total) => progress.update({ done, total, note: "objects looked for" }),
    signal,
  });
  progress.end();
  const scores = found.map((one) =>
    one === undefined ? [] : [["objects", one.all], ["least sure object", one.least]] as const
  );
  return { a: scores.slice(0, wanted.length), b: scores.slice(wanted.length) };
}

/** Prompts for the page's blind comparison: the first of each category, under its name. */
async function writeVotersPrompts(folder: string, wanted: readonly ListedPrompt[]): Promise<void> {
  const lines = [...Map.groupBy(wanted, ({ category }) => category)].flatMap(([category, own]) => [
    `# ${category}`,
    ...[...new Set(own.map(({ prompt }) => prompt))].slice(0, VOTED),
  ]);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "vote_prompts.txt"), `${lines.join("\n")}\n`);
}

function textTable(rows: readonly (readonly TableCell[])[]): string {
  const text = rows.map((row) => row.map((cell) => typeof cell === "string" ? cell : cell.text));
  const widths = text[0]?.map((_, i) => Math.max(...text.map((row) => row[i]?.length ?? 0))) ?? [];
  return text.map((row) =>
    row.map((cell, i) => i < 2 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))
      .join("  ").trimEnd()
  ).join("\n");
}
