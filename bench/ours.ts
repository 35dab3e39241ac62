/**
 * Our side of the benchmarks; speaks the line protocol of `python/peer.py`:
 *
 *     deno run -A bench/ours.ts FOLDER CASE THREADS
 */
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { stdin } from "node:process";
import { fileURLToPath } from "node:url";
import { Builder, float32, gradient, serialize, type Tensor } from "../autodiff/mod.ts";
import { clipImageEmbedding, openClip } from "../models/clip/mod.ts";
import { parseUNetConfig, readPipeline, unetVjpGraph } from "../models/diffusers/mod.ts";
import { WeightScope } from "../models/mod.ts";
import { openSafetensors, openWeights, writeSafetensors } from "../models/weights/mod.ts";
import { type ModelSource, openEngine } from "../runtime/mod.ts";
import {
  type Float32Tensor,
  makeSampler,
  parseSchedulerConfig,
  PipelineModel,
  trainStep,
} from "../trainer/mod.ts";

/** Gradients by name. */
type Run = () => Promise<Readonly<Record<string, Tensor>>>;

const engine = await openEngine({ isolation: "in-process" });

const [folder = "", name = "", threads = "1"] = Deno.args;
const options = { intraOpNumThreads: Number(threads), allowSpinning: true };
const inputs = openSafetensors(`${folder}/inputs.safetensors`);
const read = (tensor: string) => inputs.readFloat32(tensor);

/** d ⟨direction, embedding⟩ / d pixels of CLIP's image tower. */
async function clipCase(): Promise<Run> {
  const model = await openClip(`${folder}/clip`);
  const [pixels, direction] = [await read("pixels"), await read("direction")];
  const b = new Builder({ differentiable: true });
  const x = b.input("pixels", pixels);
  const cotangent = b.input("direction", direction);
  const y = clipImageEmbedding(new WeightScope(b, model.weights), x, model.config);
  const [dx] = gradient(b, [{ value: y, cotangent }], [x]);
  if (dx === undefined) throw new TypeError("No gradient");
  const bytes = serialize(b, { "grad.pixels": dx, value: y });
  return await runOf({ bytes, weightsRoot: model.source.root }, { pixels, direction });
}

/** Gradients of every LoRA tensor of a U-Net. */
async function unetCase(): Promise<Run> {
  const file = `${folder}/unet/config.json`;
  const config = parseUNetConfig(JSON.parse(readFileSync(file, "utf8")), file);
  const weights = await openWeights(`${folder}/unet`);
  const lora = { rank: 32, alpha: 32 };
  const size = { batch: 1, height: 32, width: 32, tokens: 77 };
  const model = unetVjpGraph({ config, weights }, { ...size, lora });
  const feeds: Record<string, Tensor> = {
    sample: await read("sample"),
    timestep: float32([500]),
    encoder_hidden_states: await read("states"),
    cotangent: await read("cotangent"),
  };
  for (const n of inputs.tensors.keys()) {
    if (n.startsWith("lora.")) feeds[n.slice("lora.".length)] = await read(n);
  }
  return await runOf(model, feeds);
}

async function runOf(model: ModelSource, feeds: Readonly<Record<string, Tensor>>): Promise<Run> {
  const session = await engine.load(model, options);
  return async () => {
    const out = Object.entries(await session.run({ ...feeds }));
    return Object.fromEntries(
      out.flatMap(([n, t]) => n.startsWith("grad.") ? [[n.slice("grad.".length), t]] : []),
    );
  };
}

/** One DRTune iteration of the embedded pipeline, up to the LoRA gradients; the image's gradient is given. */
async function iterationCase(): Promise<Run> {
  const pipeline = await readPipeline(fileURLToPath(new URL("../zoo/pipeline", import.meta.url)));
  const lora: Record<string, Float32Tensor> = {};
  for (const n of inputs.tensors.keys()) {
    if (n.startsWith("zoo.")) lora[n.slice("zoo.".length)] = await read(n);
  }
  const model = new PipelineModel(pipeline, engine, {
    lora: { rank: 16, alpha: 16 },
    session: options,
  });
  const denoiser = await model.adapt(lora);
  const [x, noise] = [await read("zoo_x"), await read("zoo_noise")];
  const gradient = await read("zoo_image_grad");
  const size = x.data.length;
  const sampler = makeSampler(
    { kind: "ddpm", steps: 10 },
    parseSchedulerConfig(pipeline.scheduler),
  );
  return async () => {
    const { prompts, decoder } = model;
    const { gradients } = await trainStep({ prompts, decoder, denoiser }, {
      sampler,
      plan: { trainSteps: [3, 8], tMin: 2, inputStopGradient: true, redraws: 0 },
      guidance: { scale: 5, gradient: "both" },
      prompts: Array.from({ length: 8 }, () => "a fox, and books"),
      noise: {
        initial: () => x,
        step: (i) => noise.data.subarray(i * size, (i + 1) * size),
        redraw: () => new Float32Array(size),
      },
      reward: { evaluate: () => Promise.resolve({ loss: 0, gradient, rewards: {} }) },
    });
    return gradients;
  };
}

const cases: Readonly<Record<string, () => Promise<Run>>> = {
  clip: clipCase,
  unet: unetCase,
  iteration: iterationCase,
};
const make = cases[name];
if (make === undefined) throw new RangeError(`No case "${name}"`);
const run = await make();
let last: Readonly<Record<string, Tensor>> = {};
const answer = (value: unknown) => console.log(JSON.stringify(value));
answer({ ready: true });
for await (const line of createInterface({ input: stdin })) {
  const [word, file] = line.split(" ");
  if (word === "run") {
    const start = performance.now();
    last = await run();
    answer({ seconds: (performance.now() - start) / 1000 });
  } else if (word === "save" && file !== undefined) {
    await writeSafetensors(file, { ...last });
    answer({ saved: Object.keys(last).length });
  } else if (word === "memory") {
    const status = readFileSync("/proc/self/status", "utf8");
    answer({ peakMb: Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? NaN) / 1024 });
  } else break;
}
await engine.close();
