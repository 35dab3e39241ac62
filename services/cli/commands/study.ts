import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { stringify } from "yaml";
import { type Arguments, type Command, UsageError } from "../command.ts";
import { Judges } from "../judge/judges.ts";
import { STACK_OPTION } from "../stack/option.ts";
import { readStack, ROOT, stackFile } from "../stack/read_stack.ts";
import { writeCompositionReport } from "../study/composition/composition_report.ts";
import { runComposition } from "../study/composition/run_composition.ts";
import { writeGradientNormReport } from "../study/gradient_norm/gradient_norm_report.ts";
import { runGradientNorm } from "../study/gradient_norm/run_gradient_norm.ts";
import { writeGridReport } from "../study/grid_report.ts";
import { readStudy, type StudyFile, studyNames } from "../study/read_study.ts";
import { gridRuns, rewardNames, runGrid } from "../study/run_grid.ts";
import { StudyFolder } from "../study/study_folder.ts";
import type { GridStudy } from "../study/study_schema.ts";
import { ownStack, runningStack } from "../study/study_stack.ts";
import { typed } from "../typed.ts";

/** The stack whose services a study starts by itself: all rewards of the embedded models. */
const STUDY_STACK = join(ROOT, "deploy", "stack_studies.yaml");

/** Runs a study. */
export const study: Command = {
  name: "study",
  summary:
    "Compare methods or settings: a grid of runs at equal compute, its table, plots and page",
  usage: "NAME|FILE [--budget SECONDS] [--only AXIS=VALUE]... [--out DIR]",
  options: {
    out: { type: "string", value: "DIR", help: "folder of the study (default: studies/NAME)" },
    budget: {
      type: "string",
      value: "SECONDS",
      help:
        "a short form: this much compute for each run, first seeds only, one picture a prompt, nothing chosen",
    },
    only: {
      type: "string",
      value: "AXIS=VALUE",
      multiple: true,
      help: "runs with this value of an axis only; may be repeated",
    },
    running: {
      type: "boolean",
      help: `train on the stack that "${
        typed("up")
      }" keeps running (default: start what is needed)`,
    },
    presets: {
      type: "string",
      value: "DIR",
      help: "write each run's configuration there for `drtune train`, and run nothing",
    },
    stack: {
      ...STACK_OPTION.stack,
      help:
        "stack whose models and rewards it starts (default: deploy/stack_studies.yaml), or with --running that runs",
    },
  },
  examples: [
    "drtune study table1",
    "drtune study table1 --budget 5",
    "drtune study fig9 --only T=20 --out /tmp/fig9",
    "drtune study table1_sd15 --presets sd15",
  ],
  async run(args, signal) {
    const [given, ...more] = args.positionals;
    if (given === undefined || more.length > 0) {
      throw new UsageError(`Name one study: ${(await studyNames()).join(", ")}, or a file`);
    }
    const file = await readStudy(given);
    const { study } = file;
    if (study.kind !== "grid") return await runOther(file, { args, signal });
    const grid = chosenPart(study, args);
    const presets = args.text("presets");
    if (presets !== undefined) return await writePresets({ ...file, study: grid }, presets);
    await runStudy({ ...file, study: grid }, { args, signal });
    return 0;
  },
};

/** Runs a study that trains nothing. */
async function runOther(
  { name, study, path }: StudyFile,
  { args, signal }: { readonly args: Arguments; readonly signal: AbortSignal },
): Promise<number> {
  const given = ["budget", "only", "presets", "running"].find((option) =>
    args.flag(option) || args.text(option) !== undefined || args.list(option).length > 0
  );
  if (given !== undefined) throw new UsageError(`Option --${given} is for studies that train`);
  const out = resolve(args.text("out") ?? join("studies", name));
  const { models } = await readStack(args.text("stack") ?? STUDY_STACK);
  const folder = new StudyFolder(out);
  const command = commandOf(args, { name, path });
  console.error(`${study.title}: results go to ${out}`);
  if (study.kind === "composition") {
    const points = await runComposition(study, { folder, models, signal });
    await writeCompositionReport(folder, points, { study, command });
  } else if (study.kind === "gradient-norm") {
    const measured = await runGradientNorm(study, { folder, models, path, signal });
    await writeGradientNormReport(folder, measured, { study, command });
  }
  console.log(join(out, "index.html"));
  return 0;
}

type GridFile = StudyFile & { readonly study: GridStudy };

/** The part of a study that the options leave. */
function chosenPart(study: GridStudy, args: Arguments): GridStudy {
  const only = Map.groupBy(args.list("only"), (text) => text.slice(0, text.indexOf("=")));
  const axes = Object.fromEntries(
    Object.entries(study.axes).map(([axis, values]) => {
      const wanted = only.get(axis)?.map((text) => text.slice(axis.length + 1));
      const kept = Object.entries(values).filter(([value]) => wanted?.includes(value) ?? true);
      return [axis, Object.fromEntries(kept)];
    }),
  );
  for (const text of args.list("only")) {
    const cut = text.indexOf("=");
    if (study.axes[text.slice(0, cut)]?.[text.slice(cut + 1)] !== undefined) continue;
    const expected = Object.entries(study.axes).map(([name, all]) =>
      `${name}=${Object.keys(all).join("|")}`
    );
    throw new UsageError(`Option --only is "${text}", expected ${expected.join(", ")}`);
  }
  const budget = args.number("budget", { min: 0.1, max: 1e7 });
  const chosen = { ...study, axes };
  if (budget === undefined) return chosen;
  const { choose: _, ...short } = chosen;
  const measure = { ...study.measure, imagesPerPrompt: 1 };
  return { ...short, budget, measure, seeds: study.seeds.slice(0, 1) };
}

async function runStudy(
  { name, study, path }: GridFile,
  { args, signal }: { readonly args: Arguments; readonly signal: AbortSignal },
): Promise<void> {
  const out = resolve(args.text("out") ?? join("studies", name));
  const isRunning = args.flag("running");
  const given = args.text("stack");
  const described = await readStack(isRunning ? await stackFile(given) : given ?? STUDY_STACK);
  const names = rewardNames({ name, study });
  await mkdir(out, { recursive: true });
  const folder = new StudyFolder(out);
  console.error(`${study.title}: results go to ${out}`);
  await using stack = isRunning
    ? await runningStack(described, names)
    : await ownStack(described, { folder: out, names, signal });
  const addresses = new Map(names.map((name) => [name, stack.rewards.get(name) ?? ""]));
  await using judges = await Judges.connect(addresses, stack.tls);
  const { models } = described;
  const outcome = await runGrid({ name, study, folder, stack, judges, models, signal });
  const budget = args.text("budget");
  await writeGridReport(folder, outcome, {
    ...{ name, study, command: commandOf(args, { name, path }) },
    short: budget === undefined
      ? ""
      : `A short form: ${budget} s of compute for each run, the first seed only, one picture of each prompt, no setting ` +
        "chosen. It shows that the study works and hints at what the whole one finds.",
    isUp: (reward) => judges.isUp(reward),
  });
  console.log(join(out, "index.html"));
}

function commandOf(
  args: Arguments,
  { name, path }: { readonly name: string; readonly path: string },
) {
  const isOwn = path === join(ROOT, "configs", "studies", `${name}.yaml`);
  const words = [
    isOwn ? name : path,
    ...args.text("budget") === undefined ? [] : ["--budget", args.text("budget")],
    ...args.list("only").flatMap((text) => ["--only", /\s/.test(text) ? `"${text}"` : text]),
  ];
  return typed(`study ${words.join(" ")}`);
}

/** A file for each run of the first seed, as `drtune train --config` takes it. */
async function writePresets({ name, study }: GridFile, folder: string): Promise<number> {
  await mkdir(folder, { recursive: true });
  const runs = gridRuns({ name, study: { ...study, seeds: study.seeds.slice(0, 1) } }, []);
  for (const { cell, fields } of runs) {
    const words = Object.values(cell).join("-").toLowerCase().replaceAll(/[^a-z0-9.]+/g, "-");
    const about = Object.entries(cell).map(([axis, value]) => `${axis} ${value}`).join(", ");
    const comment =
      `# ${study.title}: ${about}. The study gives each run ${study.budget} s of compute.\n`;
    await writeFile(join(folder, `${words}.yaml`), comment + stringify(fields));
  }
  console.log(`${runs.length} configurations in ${folder}`);
  return 0;
}
