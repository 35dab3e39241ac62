/**
 * Our side of the benchmarks; speaks the line protocol of `python/peer.py`:
 *
 *     deno run -A bench/ours.ts FOLDER CASE_JSON MODE PLACE_JSON
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Builder, float32, gradient, type Tensor } from "../autodiff/mod.ts";
import { serialize } from "../compile/mod.ts";
import { clipImageEmbedding, openClip } from "../models/clip/mod.ts";
import {
  parseUNetConfig,
  parseVaeConfig,
  readPipeline,
  unetModules,
} from "../models/diffusers/mod.ts";
import {
  flux2Transformer,
  parseFlux2Config,
  parseSD3Config,
  parseZImageConfig,
  sd3Transformer,
  timestepProjection,
  zImageTransformer,
} from "../models/flow/mod.ts";
import { loraChanges } from "../models/lora/mod.ts";
import { WeightScope } from "../models/mod.ts";
import { openSafetensors, openWeights, writeSafetensors } from "../models/weights/mod.ts";
import { type ModelSource, openEngine } from "../runtime/mod.ts";
import {
  decoderNetwork,
  type Float32Tensor,
  makeSampler,
  NetworkRunner,
  parseSchedulerConfig,
  PipelineModel,
  type RunnableNetwork,
  trainBatch,
  transformerNetwork,
  unetNetwork,
} from "../trainer/mod.ts";
import { loadReward, parseRewardConfig } from "../rewards/mod.ts";
import type {
  BenchCase,
  BenchPlace,
  ClipCase,
  IterationCase,
  Mode,
  RewardCase,
  TransformerCase,
  UNetCase,
  VaeCase,
} from "./cases.ts";

/** One run: values and gradients by the names both sides use. */
type Run = () => Promise<Readonly<Record<string, Tensor>>>;

const [folder = "", json = "{}", mode = "gradient", placeJson = "{}"] = Deno.args;
const place: BenchPlace = JSON.parse(placeJson);
/** Of a transformer, 1000 sigma. */
const TIMESTEP = 500;
const engine = await openEngine({ isolation: "in-process" });
const options = { intraOpNumThreads: place.threads, provider: place.provider };
/** What graphs are written for. */
const target = (memory = place.memory ?? Infinity) => ({
  memory,
  provider: place.provider,
  precision: place.ours,
  threads: place.threads,
});
const inputs = openSafetensors(`${folder}/inputs.safetensors`);
const read = (tensor: string) => inputs.readFloat32(tensor);
const wanted = mode === "forward" ? "forward" : "gradient";

async function clipRun({ batch, vision }: ClipCase, mode: Mode): Promise<Run> {
  const model = await openClip(`${folder}/model`);
  const side = Number(vision.image_size);
  const b = new Builder({ differentiable: mode === "gradient" });
  const x = b.input("pixels", { dtype: "float32", shape: [batch, 3, side, side] });
  const value = clipImageEmbedding(new WeightScope(b, model.weights), x, model.config);
  const source = (outputs: Parameters<typeof serialize>[1]) => ({
    bytes: serialize(b, outputs),
    weightsRoot: model.source.root,
  });
  if (mode === "forward") return await sessionRun(source({ value }));
  const cotangent = b.input("cotangent", value);
  const [dx] = gradient(b, [{ value, cotangent }], [x]);
  if (dx === undefined) throw new TypeError("No gradient");
  return await sessionRun(source({ value, "grad.pixels": dx }));
}

async function unetRun(bench: UNetCase, mode: Mode): Promise<Run> {
  const { batch, size: side, rank } = bench;
  const { memory, ...rest } = target(onCpu(bench.memory?.[mode]));
  const config = parseUNetConfig(...configFile());
  const part = { config, weights: await openWeights(`${folder}/model`) };
  const task = mode === "forward" ? "prediction" : "product";
  const size = { batch, height: side, width: side, tokens: 77 };
  const changes = loraChanges(unetModules(part), { rank, alpha: rank });
  const network = unetNetwork(part, { task, size, changes, memory, ...rest });
  return await networkRun(network, { memory, result: "prediction" });
}

/** The transformer of a folder, by the class that its configuration names. */
async function openTransformer() {
  const file = configFile();
  const weights = await openWeights(`${folder}/model`);
  switch (file[0]._class_name) {
    case "Flux2Transformer2DModel":
      return flux2Transformer({ config: parseFlux2Config(...file), weights });
    case "ZImageTransformer2DModel":
      return zImageTransformer({ config: parseZImageConfig(...file), weights });
    default:
      return sd3Transformer({ config: parseSD3Config(...file), weights });
  }
}

async function transformerRun(bench: TransformerCase, mode: Mode): Promise<Run> {
  const { batch, size: side, tokens, rank } = bench;
  const { memory, ...rest } = target(onCpu(bench.memory?.[mode]));
  const transformer = await openTransformer();
  const task = mode === "forward" ? "prediction" : "product";
  const size = { batch, height: side, width: side, tokens };
  const changes = loraChanges(transformer.layers, {
    rank,
    alpha: rank,
    targets: transformer.targets,
  });
  const network = transformerNetwork(transformer, { task, size, changes, memory, ...rest });
  return await networkRun(network, { memory, result: "prediction" }, {
    timestep_proj: timestepProjection(
      Array.from({ length: batch }, () => transformer.time(TIMESTEP)),
    ),
  });
}

async function vaeRun(bench: VaeCase, mode: Mode): Promise<Run> {
  const { batch, size: side } = bench;
  const { memory, ...rest } = target(onCpu(bench.memory));
  const config = parseVaeConfig(...configFile());
  const part = { config, weights: await openWeights(`${folder}/model`) };
  const task = mode === "forward" ? "image" : "product";
  const size = { batch, height: side, width: side };
  const network = decoderNetwork(part, { task, size, memory, ...rest });
  return await networkRun(network, { memory, result: "image" });
}

/** A network as the trainer runs it. */
async function networkRun(
  network: RunnableNetwork,
  { memory, result }: { readonly memory: number; readonly result: string },
  more: Readonly<Record<string, Tensor>> = {},
): Promise<Run> {
  const runner = new NetworkRunner(engine, { session: options, memory });
  const all: Record<string, Tensor> = { ...more };
  for (const name of inputs.tensors.keys()) all[name] = await read(name);
  const { cotangent, ...feeds } = all;
  if (mode !== "forward" && cotangent !== undefined) {
    return async () => {
      const gradients = await runner.vjp(network, { feeds, cotangent });
      return Object.fromEntries(Object.entries(gradients).map(([n, g]) => [`grad.${n}`, g]));
    };
  }
  return async () => {
    const value = await runner.forward(network, feeds);
    return value === undefined ? {} : { [result]: value };
  };
}

/** A limit that is for a processor's memory. */
function onCpu(memory: number | undefined): number | undefined {
  return place.provider === "cpu" ? memory : undefined;
}

function configFile(): [Record<string, unknown>, string] {
  const path = `${folder}/model/config.json`;
  return [JSON.parse(readFileSync(path, "utf8")), path];
}

async function sessionRun(model: ModelSource): Promise<Run> {
  const session = await engine.load(model, options);
  const feeds: Record<string, Tensor> = {};
  for (const name of session.inputNames) feeds[name] = await read(name);
  return async () => await session.run(feeds);
}

async function iterationRun(
  { model: kind, batch, rank, steps, trainSteps, tMin, guidance }: IterationCase,
): Promise<Run> {
  const zoo = fileURLToPath(new URL("../zoo/pipeline", import.meta.url));
  const pipeline = await readPipeline(kind === undefined ? zoo : `${folder}/model`);
  const lora: Record<string, Float32Tensor> = {};
  for (const name of inputs.tensors.keys()) {
    if (name.includes(".lora_")) lora[name] = await read(name);
  }
  const model = new PipelineModel(pipeline, engine, {
    lora: { rank, alpha: rank },
    session: options,
    precision: place.ours,
    ...(place.memory !== undefined && { limits: { memory: place.memory } }),
  });
  const denoiser = await model.adapt(lora);
  const [x, noise] = [await read("sample"), await read("noise")];
  const imageGradient = await read("cotangent");
  const size = x.data.length;
  const sampler = makeSampler({ kind: "ddpm", steps }, parseSchedulerConfig(pipeline.scheduler));
  return async () => {
    const { prompts, decoder } = model;
    const { gradients } = await trainBatch({ prompts, decoder, denoiser }, {
      sampler,
      selection: { trainSteps, tMin, inputStopGradient: true, redraws: 0 },
      guidance: { scale: guidance, gradient: "both" },
      prompts: Array.from({ length: batch }, () => "a fox, and books"),
      noise: {
        initial: () => x,
        step: (i) => noise.data.subarray(i * size, (i + 1) * size),
        redraw: () => new Float32Array(size),
      },
      reward: {
        evaluate: () => Promise.resolve({ loss: 0, gradient: imageGradient, rewards: {} }),
      },
    });
    return Object.fromEntries(Object.entries(gradients).map(([n, g]) => [`grad.${n}`, g]));
  };
}

async function rewardRun({ batch }: RewardCase, mode: Mode): Promise<Run> {
  const model = `${folder}/model`;
  const record: unknown = JSON.parse(readFileSync(`${model}/reward.json`, "utf8"));
  const reward = await loadReward(parseRewardConfig(record), {
    engine,
    threads: place.threads,
    provider: place.provider,
    memory: place.memory,
    maxBatch: Math.max(16, batch),
    baseDir: model,
    cacheDir: `${folder}/cache`,
    selfCheck: false,
  });
  const image = await read("image");
  const prompts = Array.from({ length: batch }, () => "a fox, and books");
  return async () => {
    const { scores, gradient } = await reward.score(image, prompts, {
      gradient: mode === "gradient",
    });
    return {
      score: float32(scores, [batch]),
      ...(gradient === undefined ? {} : { "grad.image": gradient }),
    };
  };
}

function runOf(bench: BenchCase, mode: Mode): Promise<Run> {
  switch (bench.kind) {
    case "clip":
      return clipRun(bench, mode);
    case "unet":
      return unetRun(bench, mode);
    case "transformer":
      return transformerRun(bench, mode);
    case "vae":
      return vaeRun(bench, mode);
    case "iteration":
      return iterationRun(bench);
    case "reward":
      return rewardRun(bench, mode);
  }
}

const bench: BenchCase = JSON.parse(json);
let last: Readonly<Record<string, Tensor>> = {};
const answer = (value: unknown) => console.log(JSON.stringify(value));
const timed = async <T>(action: () => Promise<T>) => {
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  const result = await action();
  const { user, system } = process.cpuUsage(cpu);
  const [seconds, cpuSeconds] = [(performance.now() - start) / 1e3, (user + system) / 1e6];
  return { result, times: { seconds, cpuSeconds } };
};
const { result: run, times: loading } = await timed(() => runOf(bench, wanted));
answer(loading);
for await (const line of createInterface({ input: process.stdin })) {
  const [word, file] = line.split(" ");
  if (word === "run") {
    const { result, times } = await timed(run);
    last = result;
    answer(times);
  } else if (word === "save" && file !== undefined) {
    await writeSafetensors(file, { ...last });
    answer({});
  } else if (word === "memory") {
    const status = readFileSync("/proc/self/status", "utf8");
    answer({ peakMb: Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? NaN) / 1024 });
  } else break;
}
await engine.close();
