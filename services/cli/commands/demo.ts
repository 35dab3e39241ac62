import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { Buffer } from "node:buffer";
import {
  type EvaluatedPair,
  type EvaluationSummary,
  LoraFormat,
  type RunConfig,
  RunState,
  type StepEvent,
  TrainerService,
} from "../../../proto/mod.ts";
import { type GrpcClient, grpcClient } from "../../rpc/mod.ts";
import { type Command, UsageError } from "../command.ts";
import { DEMO_MODELS, type DemoModel, type Scenario, SCENARIOS } from "../demo/scenarios.ts";
import { improved, summaryText } from "../demo/summary.ts";
import { contactSheet, type SheetSection, type Tile } from "../picture/contact_sheet.ts";
import { linePlot, smooth } from "../picture/line_plot.ts";
import { duration, Progress } from "../progress.ts";
import { type ServiceNeeds, servicePermissions } from "../stack/service_permissions.ts";
import { ServiceProcess } from "../stack/service_process.ts";
import { readRunConfig } from "../trainer/run_config_file.ts";
import { watchRun } from "../trainer/watch.ts";
import { downloadLora } from "./export.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const SEEDS = 3;
/**
 * Far from those of the samples drawn while training and of `drtune eval`, by which the settings were chosen. The
 * pictures shown are the first of each prompt's seeds.
 */
const FIRST_SEED = 5000;

/** The main job on an embedded model, from start to pictures. */
export const demo: Command = {
  name: "demo",
  summary: "Train an embedded model through real services and show what changed",
  usage: "[--model unet|flow] [--reward objectness|symmetry] [--out DIR]",
  options: {
    model: {
      type: "string",
      value: "NAME",
      help: "unet (default), Stable Diffusion in small, or flow, Stable Diffusion 3 in small",
    },
    reward: { type: "string", value: "NAME", help: "objectness (default) or symmetry" },
    out: {
      type: "string",
      value: "DIR",
      help: "folder for the results (default: demo-out/REWARD, of flow demo-out/flow-REWARD)",
    },
    seed: { type: "string", value: "N", help: "seed of the run (default 0)" },
    iterations: { type: "string", value: "N", help: "optimizer steps (default: the preset's)" },
  },
  examples: [
    "drtune demo",
    "drtune demo --reward symmetry --seed 1",
    "drtune demo --model flow",
  ],
  async run(args, signal) {
    if (args.positionals.length > 0) throw new UsageError(`Unexpected "${args.positionals[0]}"`);
    const name = args.text("reward") ?? "objectness";
    const scenario = SCENARIOS[name];
    if (scenario === undefined) {
      throw new UsageError(
        `Option --reward is "${name}", expected ${Object.keys(SCENARIOS).join(" or ")}`,
      );
    }
    const model = modelOf(args.text("model") ?? "unet");
    const preset = scenario.configs[model];
    if (preset === undefined) {
      throw new UsageError(
        `Option --reward is "${name}", which the demo of ${model} does not have`,
      );
    }
    const seed = args.number("seed", { min: 0, max: 2 ** 32 - 1, integer: true }) ?? 0;
    const iterations = args.number("iterations", { min: 1, max: 100_000, integer: true });
    const out = resolve(
      args.text("out") ?? join("demo-out", model === "unet" ? name : `${model}-${name}`),
    );
    await mkdir(out, { recursive: true });
    const started = performance.now();
    const config = await readRunConfig(join(ROOT, "configs", preset));
    config.seed = seed;
    if (iterations !== undefined) config.iterations = iterations;
    console.error(`${scenario.title} with ${DEMO_MODELS[model]}: ${scenario.promise}`);
    const services: ServiceProcess[] = [];
    try {
      const trainer = await startServices(scenario, { config, out, services, signal });
      const client = grpcClient(TrainerService, trainer);
      const crashed = Promise.withResolvers<never>();
      for (const s of services) {
        s.ended.then((how) => {
          if (!s.stopping) crashed.reject(new Error(`Service "${s.name}" ended with ${how}`));
        });
      }
      crashed.promise.catch(() => {});
      try {
        const work = trainAndShow(client, { scenario, model, config, out, signal });
        const better = await Promise.race([work, crashed.promise]);
        console.error(
          `Done in ${duration((performance.now() - started) / 1000)}. Results are in ${out}`,
        );
        return better ? 0 : 1;
      } finally {
        client.close();
      }
    } finally {
      await Promise.all(services.map((s) => s.stop()));
    }
  },
};

function modelOf(name: string): DemoModel {
  if (name === "unet" || name === "flow") return name;
  const expected = Object.keys(DEMO_MODELS).join(" or ");
  throw new UsageError(`Option --model is "${name}", expected ${expected}`);
}

/** Starts a service for each reward and the trainer; fills in the endpoints. Returns the trainer's address. */
async function startServices(
  { rewards }: Scenario,
  { config, out, services, signal }: {
    readonly config: RunConfig;
    readonly out: string;
    readonly services: ServiceProcess[];
    readonly signal: AbortSignal;
  },
): Promise<string> {
  const entry = (service: string) => join(ROOT, "services", service, "main.ts");
  const start = async (
    name: string,
    kind: "reward" | "trainer",
    { args, ...needs }: Pick<ServiceNeeds, "net" | "read" | "write"> & {
      readonly args: readonly string[];
    },
  ) => {
    const permissions = servicePermissions({
      ...{ kind, root: ROOT, deno: Deno.execPath(), gpu: false },
      ...needs,
    });
    const spec = { name, entry: entry(kind), args, permissions };
    const process = await ServiceProcess.start(spec, signal);
    services.push(process);
    return process.address;
  };
  console.error(`Starting ${Object.keys(rewards).length} reward services and the trainer`);
  const weights = join(ROOT, "zoo", "rewards");
  // Where a reward server without settings keeps converted weights.
  const cache = resolve(".cache/weights");
  const starting = Object.entries(rewards).map(async ([name, record]) => {
    const paths = Object.fromEntries(
      Object.entries(record).map(([k, v]) => [k, k === "weights" ? join(weights, v) : v]),
    );
    const full = JSON.stringify({ name, ...paths });
    const address = await start(name, "reward", {
      args: ["--reward", full, "--port", "0"],
      net: ["127.0.0.1"],
      read: [cache],
      write: [cache],
    });
    return [name, address] as const;
  });
  const runs = join(out, "runs");
  const [trainer, ...endpoints] = await Promise.all([
    start("trainer", "trainer", {
      args: ["--models", join(ROOT, "zoo"), "--runs", runs, "--port", "0"],
      net: ["127.0.0.1"],
      read: [runs],
      write: [runs],
    }),
    ...starting,
  ]);
  const addresses = new Map(endpoints);
  for (const term of config.rewards) term.endpoint = addresses.get(term.name) ?? term.endpoint;
  return trainer;
}

async function trainAndShow(
  client: GrpcClient<typeof TrainerService>,
  { scenario, model, config, out, signal }: {
    readonly scenario: Scenario;
    readonly model: DemoModel;
    readonly config: RunConfig;
    readonly out: string;
    readonly signal: AbortSignal;
  },
): Promise<boolean> {
  const runId = `demo-${new Date().toISOString().replaceAll(/[^0-9]/g, "").slice(0, 14)}`;
  const { run } = await client.startRun({ runId, config }, { timeoutMs: 60_000, signal });
  const iterations = run?.iterations ?? 0;
  const begun = performance.now();
  console.error(`Run ${runId}: ${iterations} iterations`);
  const rewards = run?.config?.rewards ?? [];
  const watched = await watchRun(client, { runId, iterations, rewards, signal });
  if (watched.state !== RunState.FINISHED) {
    throw new Error(`The run ended as ${RunState[watched.state]}: ${watched.reason}`);
  }
  const trainingSeconds = (performance.now() - begun) / 1000;
  const text = await readFile(join(ROOT, "zoo", scenario.prompts), "utf8");
  const prompts = text.split("\n").filter(Boolean);
  const { pairs, summary } = await evaluate(client, { runId, prompts, signal });
  const lora = await downloadLora(client, {
    runId,
    format: LoraFormat.DIFFUSERS,
    out: join(out, "pytorch_lora_weights.safetensors"),
    signal,
  });
  const sections = await sectionsOf(client, {
    runId,
    prompts,
    scenario,
    iterations,
    pairs,
    signal,
  });
  await writeFile(
    join(out, "before_after.png"),
    await contactSheet(sections, { columns: 8 }),
  );
  await writePlot(out, { summary, steps: watched.steps.filter((s) => s.step > 0) });
  const files = {
    "LoRA, diffusers names": lora.path,
    "before and after": join(out, "before_after.png"),
    "rewards over training": join(out, "rewards.png"),
    "the run": join(out, "runs", runId),
  };
  const facts = {
    ...{ scenario, model, summary, iterations, trainingSeconds, files },
    prompts: prompts.length,
    seeds: SEEDS,
  };
  const report = summaryText(facts);
  await writeFile(join(out, "summary.md"), report);
  console.log(report);
  return improved(facts);
}

async function evaluate(
  client: GrpcClient<typeof TrainerService>,
  { runId, prompts, signal }: {
    readonly runId: string;
    readonly prompts: readonly string[];
    readonly signal: AbortSignal;
  },
): Promise<{ readonly pairs: readonly EvaluatedPair[]; readonly summary: EvaluationSummary }> {
  const progress = new Progress();
  progress.say("Measuring unseen prompts: drawing without the LoRA first, then with it");
  const pairs: EvaluatedPair[] = [];
  const total = prompts.length * SEEDS;
  const request = {
    ...{ runId, imagesPerPrompt: SEEDS, seed: FIRST_SEED },
    prompts: { source: { case: "list" as const, value: { prompts: [...prompts] } } },
  };
  for await (const { event } of client.evaluateRun(request, { signal })) {
    if (event.case === "pair") {
      pairs.push(event.value);
      progress.update({ done: pairs.length, total });
    } else if (event.case === "summary") {
      progress.end();
      return { pairs, summary: event.value };
    }
  }
  throw new Error("The trainer answered no summary");
}

/** Prompts at one seed: drawn by the model as it was above, with the LoRA below, scores under the pictures. */
async function sectionsOf(
  client: GrpcClient<typeof TrainerService>,
  { runId, prompts, scenario: { title, target }, iterations, pairs, signal }: {
    readonly runId: string;
    readonly prompts: readonly string[];
    readonly scenario: Scenario;
    readonly iterations: number;
    readonly pairs: readonly EvaluatedPair[];
    readonly signal: AbortSignal;
  },
): Promise<readonly SheetSection[]> {
  const drawn = async (when: "before" | "after") => {
    const tiles: Tile[] = [];
    const step = when === "before" ? { step: 0 } : {};
    const request = { runId, prompts: [...prompts], seed: FIRST_SEED, ...step };
    for await (const { prompt, png } of client.sample(request, { signal })) {
      const pair = pairs.find((p) => p.prompt === prompt && p.seed === FIRST_SEED);
      const score = pair?.[when][target.name];
      const line = score === undefined ? [] : [`${target.name} ${score.toFixed(2)}`];
      tiles.push({ image: png, lines: [prompt, ...line] });
    }
    return tiles;
  };
  const heading = `After ${iterations} iterations of DRTune (same prompts, same seeds)`;
  return [
    { heading: `${title}: before training`, tiles: await drawn("before") },
    { heading, tiles: await drawn("after") },
  ];
}

async function writePlot(
  out: string,
  { summary, steps }: {
    readonly summary: EvaluationSummary;
    readonly steps: readonly StepEvent[];
  },
) {
  const names = [...new Set(steps.flatMap((s) => Object.keys(s.rewards)))];
  const panels = names.map((name) => {
    const means = steps.map((s) => s.rewards[name]?.mean ?? NaN);
    const at = (values: readonly number[]) =>
      values.map((v, i) => [steps[i]?.step ?? 0, v] as const);
    const held = summary.rewards[name];
    return {
      title: [
        held ? `${name} (${held.smallerIsBetter ? "lower" : "higher"} is better)` : name,
        ...(held ? [`unseen prompts ${held.before.toFixed(2)} -> ${held.after.toFixed(2)}`] : []),
      ].join(", "),
      series: [
        { name: "batch", color: "#b9c6e8", points: at(means) },
        { name: "smoothed", color: "#2b59c3", points: at(smooth(means, 0.8)) },
      ],
    };
  });
  const svg = linePlot(panels, "iteration");
  await writeFile(join(out, "rewards.svg"), svg);
  await sharp(Buffer.from(svg), { density: 144 }).png().toFile(join(out, "rewards.png"));
}
