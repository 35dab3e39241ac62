import { readFile } from "node:fs/promises";
import { toJson } from "@bufbuild/protobuf";
import { decodeLines } from "../../../base/mod.ts";
import { type EvaluationSummary, EvaluationSummarySchema } from "../../../proto/mod.ts";
import { type Command, UsageError } from "../command.ts";
import { Progress } from "../progress.ts";
import { TRAINER_OPTIONS, trainerClient } from "../trainer/client.ts";
import { heldOutCount } from "../trainer/held_out_count.ts";
import { COMPARE_OPTIONS, compareCommand, showVotes } from "../compare/compare_command.ts";
import { namedReward } from "../compare/judges_of.ts";
import { runIdOf } from "./runs.ts";

/** Measures what a run's LoRA changed. */
export const evaluate: Command = {
  name: "eval",
  summary:
    "Measure what a run's LoRA changed, or compare two runs, models, LoRAs or folders of pictures",
  usage:
    "RUN | A B | [A] B --benchmark FOLDER [--prompts FILE] [--images N] [--reward NAME=HOST:PORT]...",
  options: {
    prompts: {
      type: "string",
      value: "FILE",
      help:
        'prompts, one a line; of two sides "# NAME" begins a category (default: the run\'s held-out prompts)',
    },
    images: {
      type: "string",
      value: "N",
      help: "images of each prompt, seeds ascending (default 3, of two sides 1)",
    },
    seed: {
      type: "string",
      value: "N",
      help: "seed of each prompt's first image (default 1000, far from those drawn while training)",
    },
    step: { type: "string", value: "N", help: "the run's checkpoint (default: the newest)" },
    reward: {
      type: "string",
      value: "NAME[/REWARD]=HOST:PORT",
      multiple: true,
      help: "a reward to measure; may be repeated (default: the run's)",
    },
    ...COMPARE_OPTIONS,
    ...TRAINER_OPTIONS,
  },
  examples: [
    "drtune eval books-1",
    "drtune eval books-1 --images 8 --prompts zoo/prompts/concepts_held_out.txt",
    "drtune eval books-1 --reward pickscore=127.0.0.1:50053 --json",
    "drtune eval books-1 books-2 --out comparison",
    "drtune eval before/ after/ --reward symmetry --reward clip",
    "drtune eval lora.safetensors --model zoo/pipeline --benchmark prompts/ --reward hpsv2",
    "drtune eval --votes anna.json --votes ben.json --votes cleo.json",
  ],
  async run(args, signal) {
    if (args.list("votes").length > 0) return await showVotes(args);
    if (args.positionals.length > 1 || args.text("benchmark") !== undefined) {
      if (args.text("step") !== undefined) {
        throw new UsageError(
          "Option --step is for one run; of two sides write the checkpoint behind the run, as RUN@40",
        );
      }
      return await compareCommand(args, signal);
    }
    const runId = runIdOf(args);
    const file = args.text("prompts");
    const prompts = file === undefined ? undefined : decodeLines(await readFile(file), file);
    if (prompts?.length === 0) throw new UsageError(`${file} holds no prompt`);
    const imagesPerPrompt = args.number("images", { min: 1, max: 4096, integer: true }) ?? 3;
    const step = args.number("step", { min: 1, integer: true });
    const rewards = args.list("reward").map(rewardOf);
    const seed = args.number("seed", { min: 0, max: 2 ** 32 - 1, integer: true }) ?? 1000;
    const json = args.flag("json");
    const client = await trainerClient(args);
    try {
      const progress = new Progress({ quiet: json });
      let done = 0;
      const held = prompts === undefined
        ? await heldOutCount(client, { runId, signal })
        : undefined;
      const total = (prompts?.length ?? held?.count ?? 0) * imagesPerPrompt;
      if (held?.areTrained) {
        progress.say(
          "The run holds no prompts out: these are prompts it was trained on, which flatter it; name others by --prompts",
        );
      }
      progress.say("Drawing without the LoRA first, then with it");
      const messages = client.evaluateRun({
        runId,
        seed,
        imagesPerPrompt,
        rewards,
        ...(prompts && { prompts: { source: { case: "list", value: { prompts } } } }),
        ...(step !== undefined && { step }),
      }, { signal });
      for await (const { event } of messages) {
        if (event.case === "pair") {
          progress.update({ done: ++done, total: Math.max(total, done) });
        }
        if (event.case !== "summary") continue;
        progress.end();
        console.log(
          json ? JSON.stringify(toJson(EvaluationSummarySchema, event.value)) : table(event.value),
        );
        return 0;
      }
      throw new Error("The trainer answered no summary");
    } finally {
      client.close();
    }
  },
};

function rewardOf(text: string) {
  const named = namedReward(text);
  if (named !== undefined) return named;
  throw new UsageError(`Option --reward is "${text}", expected NAME[/REWARD]=HOST:PORT`);
}

/** A row for each reward, and what the columns are. */
export function table({ rewards, pairs, step }: EvaluationSummary): string {
  const number = (v: number, { signed = false } = {}) =>
    `${signed && v >= 0 ? "+" : ""}${v.toPrecision(4)}`;
  const rows = Object.entries(rewards).map((
    [name, { before, after, difference, lower, upper, smallerIsBetter }],
  ) => [
    `${name} (${smallerIsBetter ? "lower" : "higher"} is better)`,
    number(before),
    number(after),
    number(difference, { signed: true }),
    // Of a single difference nobody knows how far others are from it.
    pairs < 2 ? "-" : `${number(lower, { signed: true })} to ${number(upper, { signed: true })}`,
  ]);
  const all = [["reward", "without", "with", "difference", "95 % interval"], ...rows];
  const widths = all[0]?.map((_, i) => Math.max(...all.map((row) => row[i]?.length ?? 0))) ?? [];
  const line = (row: readonly string[]) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[i] ?? 0))
      .join("  ").trimEnd();
  return [
    ...all.map(line),
    "",
    `${pairs} ${
      pairs === 1 ? "pair" : "pairs"
    } of images at the same prompt and seed, LoRA of step ${step}; the interval is of ` +
    "the mean paired difference.",
  ].join("\n");
}
