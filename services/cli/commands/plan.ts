import { PRECISIONS } from "../../../compile/mod.ts";
import { readTextToImage } from "../../../models/flow/mod.ts";
import { PROVIDERS } from "../../../runtime/mod.ts";
import {
  insideRoot,
  measureMachine,
  planRun,
  prepareRunConfig,
  type RunConfig,
  type RunPlan,
} from "../../../trainer/mod.ts";
import { type Command, UsageError } from "../command.ts";
import { duration } from "../progress.ts";
import { readStack, stackFile } from "../stack/read_stack.ts";
import { clusterPlans, clusterTable } from "../plan/cluster_plan.ts";
import { modelPlace } from "../plan/model_place.ts";
import { plannedConfig } from "../plan/planned_config.ts";
import { readRunConfig } from "../trainer/run_config_file.ts";

/** Estimates what a run takes before it starts. */
export const plan: Command = {
  name: "plan",
  summary: "Estimate memory and time of a run before it starts",
  usage: "--config run.yaml [--models DIR]",
  options: {
    config: { type: "string", value: "FILE", help: "the run's configuration, YAML or JSON" },
    models: {
      type: "string",
      value: "DIR",
      help: "folder that its model lies in (default: the stack's)",
    },
    provider: { type: "string", value: "NAME", help: `${PROVIDERS.join(", ")} (default cpu)` },
    threads: { type: "string", value: "N", help: "threads of one operator (default: all cores)" },
    "memory-limit": {
      type: "string",
      value: "GIB",
      help: "instead of the configuration's, or half of this machine's memory, or 0.8 of the GPU's",
    },
    precision: {
      type: "string",
      value: "NAME",
      help: `${PRECISIONS.join(" or ")}, instead of the configuration's`,
    },
    workers: {
      type: "string",
      value: "N",
      help: "predict the run on a cluster of so many machines like this one",
    },
    shard: {
      type: "string",
      value: "IMAGES",
      help: "with --workers: images of a shard (default: what is predicted to be quickest)",
    },
    "reward-seconds": {
      type: "string",
      value: "S",
      help: "with --workers: seconds that all rewards take for an image (default 0)",
    },
    "reward-replicas": {
      type: "string",
      value: "N",
      help: "with --workers: servers of each reward (default 1)",
    },
    json: { type: "boolean", help: "print the estimate as JSON" },
  },
  examples: [
    "drtune plan --config configs/books.yaml",
    "drtune plan --config configs/paper_sd15.yaml --models models --memory-limit 6",
    "drtune plan --config configs/books.yaml --workers 8 --reward-seconds 0.2 --reward-replicas 2",
  ],
  async run(args) {
    if (args.positionals.length > 0) throw new UsageError(`Unexpected "${args.positionals[0]}"`);
    const models = args.text("models") ?? (await readStack(await stackFile(undefined))).models;
    const threads = args.number("threads", { min: 1, integer: true });
    const provider = args.oneOf("provider", PROVIDERS);
    const session = { provider, intraOpNumThreads: threads };
    const memoryLimit = args.number("memory-limit", { min: 0.25 });
    const workers = args.number("workers", { min: 1, max: 10_000, integer: true });
    const shard = args.number("shard", { min: 1, integer: true });
    const reward = {
      perImage: args.number("reward-seconds", { min: 0 }) ?? 0,
      replicas: args.number("reward-replicas", { min: 1, integer: true }) ?? 1,
    };
    if (workers === undefined) {
      const lost = ["shard", "reward-seconds", "reward-replicas"].find((name) => args.text(name));
      if (lost !== undefined) throw new UsageError(`Option --${lost} needs --workers`);
    }
    const wire = await readRunConfig(args.required("config"));
    await using place = await modelPlace(models, wire.model);
    const { root, note } = place;
    if (note !== undefined) console.error(note);
    const config = await prepareRunConfig(
      plannedConfig(wire, { memoryLimit, precision: args.text("precision") }),
      { root, session },
    );
    const pipeline = await readTextToImage(await insideRoot(root, config.model, "model"));
    const speed = await measureMachine({ session, seconds: 3 });
    const estimate = planRun(config, { pipeline, speed, provider });
    const cluster = workers === undefined ? undefined : clusterPlans(config, {
      ...{ workers, shard, reward, planRun: (c) => planRun(c, { pipeline, speed, provider }) },
    });
    if (args.flag("json")) {
      const { memoryLimit } = config;
      console.log(
        JSON.stringify({ ...estimate, memoryLimit, speed, ...(cluster && { cluster }) }),
      );
    } else {
      console.log(table(estimate, { ...config, memoryLimit: config.memoryLimit ?? Infinity }));
      if (cluster) console.log(clusterTable(cluster));
    }
    return 0;
  },
};

function table(
  { phases, bytes, secondsPerIteration, remark }: RunPlan,
  { memoryLimit, model, precision }: Pick<RunConfig, "model" | "precision"> & {
    readonly memoryLimit: number;
  },
): string {
  const memory = (n: number) =>
    n < 2 ** 30 ? `${Math.round(n / 2 ** 20)} MiB` : `${(n / 2 ** 30).toFixed(1)} GiB`;
  const seconds = (s: number) => s < 10 ? `${s.toPrecision(2)} s` : duration(s);
  const rows = [
    ["phase", "runs", "pieces", "memory", "TFLOP", "time"],
    ...phases.map((p) => [
      p.name,
      p.runs.toFixed(Number.isInteger(p.runs) ? 0 : 1),
      p.pieces === 1 ? "-" : String(p.pieces),
      memory(p.bytes),
      (p.flops / 1e12).toPrecision(3),
      seconds(p.seconds),
    ]),
  ];
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0))) ?? [];
  const lines = rows.map((row) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))
      .join("  ")
  );
  return [
    `One iteration of ${model}, rewards not counted`,
    "",
    ...lines,
    "",
    `Memory of the process that runs the networks: ${memory(bytes)} at most (limit ${
      memory(memoryLimit * 2 ** 30)
    })`,
    `Time of an iteration: ${seconds(secondsPerIteration)}`,
    ...remark === undefined ? [] : [remark],
    ...precision === "float16"
      ? ["This is a GPU's memory; without one, float16 takes more, and more time, than float32"]
      : [],
    ...bytes > memoryLimit * 2 ** 30
      ? ["The limit is too low even for single layers: a smaller size or batch is needed"]
      : [],
  ].join("\n");
}
