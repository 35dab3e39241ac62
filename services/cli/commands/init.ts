import { mkdir, stat, writeFile } from "node:fs/promises";
import { basename, join, relative, resolve } from "node:path";
import { decodeLines, nearest } from "../../../base/mod.ts";
import { PROVIDERS } from "../../../runtime/mod.ts";
import { type Command, UsageError } from "../command.ts";
import { KNOWN_MODELS } from "../fetch/known_models.ts";
import { ask } from "../init/ask.ts";
import { chosenModel } from "../init/chosen_model.ts";
import { projectFiles } from "../init/project_files.ts";
import { REWARD_RECIPES } from "../init/reward_recipes.ts";
import { ROOT } from "../stack/read_stack.ts";
import { typedIn } from "../typed.ts";

/** Prompts that are held out of a file: every so many, at most this many; all samples of a run are of the first eight. */
const [HOLD_OUT_EVERY, HELD_OUT] = [4, 8];

/** Begins a project: a stack, a run and prompts. */
export const init: Command = {
  name: "init",
  summary: "Begin a project: write a stack, a run and prompts for your model, ready to start",
  usage: "[DIR] [--model NAME] [--reward KIND] [--prompts FILE] [--provider NAME]",
  options: {
    model: {
      type: "string",
      value: "NAME",
      help: 'your diffusers folder or single file, OWNER/NAME, or a name of "fetch" (default sd15)',
    },
    reward: {
      type: "string",
      value: "KINDS",
      help: `${Object.keys(REWARD_RECIPES).join(", ")}; several with commas (default pickscore)`,
    },
    prompts: {
      type: "string",
      value: "FILE",
      help: "your prompts, one a line (default: 93 short ones); some are held out",
    },
    provider: { type: "string", value: "NAME", help: `${PROVIDERS.join(", ")} (default cpu)` },
    iterations: { type: "string", value: "N", help: "optimizer steps of the run (default 200)" },
  },
  examples: [
    "drtune init",
    "drtune init my-project --model sdxl --reward hpsv2,aesthetic --provider cuda",
    "drtune init my-project --model /data/my-model --prompts prompts.txt --reward pickscore",
  ],
  async run(args) {
    const [folder = "project", more] = args.positionals;
    if (more !== undefined) throw new UsageError(`Unexpected "${more}"`);
    const model = await chosenModel(ask(args, {
      option: "model",
      question: "Model (a folder, a file, OWNER/NAME, or a name that fetch knows)",
      usual: "sd15",
    }));
    const rewards = kindsOf(ask(args, {
      option: "reward",
      question: `Rewards, with commas between (${Object.keys(REWARD_RECIPES).join(", ")})`,
      usual: "pickscore",
    }));
    const file = ask(args, {
      option: "prompts",
      question: "Your prompts, a file with one a line (empty for a list of ours)",
      usual: "",
    });
    const providerText = ask(args, {
      option: "provider",
      question: `Computed on (${PROVIDERS.join(", ")})`,
      usual: "cpu",
    });
    const provider = PROVIDERS.find((name) => name === providerText);
    if (provider === undefined) {
      throw new UsageError(`Provider is "${providerText}", expected ${PROVIDERS.join(", ")}`);
    }
    const iterations = args.number("iterations", { min: 1, max: 2_097_151, integer: true }) ?? 200;
    const { prompts, heldOut } = await promptsOf(file);
    const files = projectFiles({
      name: nameOf(folder),
      model,
      rewards,
      provider,
      iterations,
      prompts,
      heldOut,
    });
    for (const name of files.keys()) {
      const path = join(folder, name);
      if (!await stat(path).then(() => true, () => false)) continue;
      throw new UsageError(`${path} is there already: name another folder, or move it away`);
    }
    await mkdir(folder, { recursive: true });
    if (model.root === "models") await mkdir(join(folder, model.root), { recursive: true });
    for (const [name, text] of files) await writeFile(join(folder, name), text, { flag: "wx" });
    const wanted = [
      ...(model.fetch === undefined ? [] : [model.fetch]),
      ...new Set(rewards.flatMap((kind) => REWARD_RECIPES[kind]?.fetch ?? [])),
    ];
    console.log(
      [
        `${join(folder, "stack.yaml")}    ${
          rewards.join(", ")
        }, the trainer and the page, on ${provider}`,
        `${join(folder, "run.yaml")}      DRTune on ${model.model}, ${iterations} iterations`,
        `${join(folder, "prompts.txt")}   ${prompts.length} prompts to train on`,
        `${join(folder, "held_out.txt")}  ${heldOut.length} to look at and to measure by`,
        "",
        "Next:",
        ...nextSteps(folder, wanted),
      ].join("\n"),
    );
    return 0;
  },
};

function nextSteps(folder: string, wanted: readonly string[]): readonly string[] {
  const drtune = (words: string) => typedIn(folder, words);
  const bytes = wanted.reduce((sum, name) => sum + (KNOWN_MODELS[name]?.size ?? 0), 0);
  const size = bytes > 0 ? `   # ${(bytes / 1e9).toFixed(1)} GB, into models/` : "";
  return [
    ...(relative(".", folder) === "" ? [] : [`cd ${folder}`]),
    `${drtune("plan --config run.yaml")}   # memory and time, also before weights are there`,
    ...(wanted.length > 0 ? [`${drtune(`fetch ${wanted.join(" ")}`)}${size}`] : []),
    `${drtune("doctor")}   # is all there, and are the rewards' gradients right`,
    drtune("up --detach"),
    drtune("train --config run.yaml --id first"),
  ].map((line) => `  ${line}`);
}

function kindsOf(text: string): readonly string[] {
  const kinds = text.split(",").map((kind) => kind.trim()).filter(Boolean);
  const known = Object.keys(REWARD_RECIPES);
  const wrong = kinds.find((kind, i) => !known.includes(kind) || kinds.indexOf(kind) < i);
  if (kinds.length > 0 && wrong === undefined) return kinds;
  const near = wrong === undefined ? undefined : nearest(wrong, known);
  const hint = near === undefined || near === wrong ? "" : `, did you mean ${near}?`;
  throw new UsageError(
    `Reward is ${JSON.stringify(wrong ?? text)}, expected each of ${known.join(", ")} once${hint}`,
  );
}

/** A person's prompts, or the embedded list; some of them are held out, so that what is measured was not trained on. */
async function promptsOf(
  file: string,
): Promise<{ readonly prompts: readonly string[]; readonly heldOut: readonly string[] }> {
  const path = file === "" ? join(ROOT, "zoo/prompts/concepts.txt") : file;
  const bytes = await Deno.readFile(path).catch((cause) => {
    const reason = cause instanceof Deno.errors.NotFound ? "does not exist" : "cannot be read";
    throw new UsageError(`Prompt file ${path} ${reason}`, { cause });
  });
  const all = decodeLines(bytes, path);
  if (all.length < 2) {
    throw new UsageError(
      `${path} holds ${all.length} prompts, expected at least 2, one a line: one is held out`,
    );
  }
  const isHeldOut = (i: number) => i % HOLD_OUT_EVERY === 1 && i < HOLD_OUT_EVERY * HELD_OUT;
  return {
    prompts: all.filter((_, i) => !isHeldOut(i)),
    heldOut: all.filter((_, i) => isHeldOut(i)),
  };
}

/** A stack's name of a folder's. */
function nameOf(folder: string): string {
  const name = basename(resolve(folder)).toLowerCase().replaceAll(/[^a-z0-9-]+/g, "-");
  return name.replace(/^-+/, "").slice(0, 40) || "project";
}
