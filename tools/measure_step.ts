/**
 * `deno task measure-step`: one DRTune step of a diffusers folder, whatever its size, with a given image gradient in
 * place of a reward's: estimated and measured memory of all its processes, and time by phase.
 *
 *     deno task measure-step --model FOLDER [--latents 64] [--steps 4] [--k 2] [--m 2] [--guidance 7.5] [--rank 32]
 *                            [--memory-limit GIB] [--threads N]
 */
import process from "node:process";
import { basename, dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { float32 } from "../autodiff/mod.ts";
import { peakMemory } from "../runtime/mod.ts";
import {
  makeSampler,
  openRunModel,
  plan,
  prepareRunConfig,
  randomStream,
  seededNoise,
  trainStep,
} from "../trainer/mod.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "" },
    latents: { type: "string" },
    steps: { type: "string", default: "4" },
    k: { type: "string", default: "2" },
    m: { type: "string", default: "2" },
    guidance: { type: "string", default: "7.5" },
    rank: { type: "string", default: "32" },
    "memory-limit": { type: "string" },
    threads: { type: "string" },
  },
});
const whole = (text: string | undefined) => text === undefined ? undefined : Number(text);
const folder = resolve(values.model);
const root = dirname(folder);
const size = whole(values.latents);
const config = await prepareRunConfig({
  model: basename(folder),
  sampler: { steps: Number(values.steps) },
  method: { k: Number(values.k), m: Number(values.m) },
  guidance: { scale: Number(values.guidance) },
  lora: { rank: Number(values.rank) },
  latentHeight: size,
  latentWidth: size,
  memoryLimit: whole(values["memory-limit"]),
  prompts: ["a fox, and books"],
  rewards: [{ name: "given", endpoint: "given" }],
}, { root });
const threads = whole(values.threads);
const opened = await openRunModel(config, {
  root,
  session: threads === undefined ? {} : { intraOpNumThreads: threads },
});
try {
  const estimate = await opened.plan?.();
  const { model, scheduler, latents } = opened;
  const denoiser = await model.adapt(model.initialParameters(0));
  const T = config.sampler.steps;
  const random = randomStream(0, "plan", { iteration: 1, image: 0 });
  const { seconds, gradients } = await trainStep({
    prompts: model.prompts,
    decoder: model.decoder,
    denoiser,
  }, {
    sampler: makeSampler(config.sampler, scheduler),
    plan: plan(config.method, { T, random }),
    guidance: config.guidance,
    prompts: config.prompts,
    noise: seededNoise([{ seed: 0, iteration: 1, image: 0 }], latents),
    reward: {
      evaluate: ({ data, shape }) =>
        Promise.resolve({
          loss: 0,
          gradient: float32(data.map((v) => v / data.length), shape),
          rewards: {},
        }),
    },
  });
  const finite = Object.values(gradients).every(({ data }) => data.every(Number.isFinite));
  const mib = (bytes = NaN) => Math.round(bytes / 2 ** 20);
  const [engine, own] = [await opened.peakMemory?.(), await peakMemory(process.pid)];
  console.log(JSON.stringify(
    {
      latents,
      memoryLimitGib: config.memoryLimit,
      estimatedMib: mib(estimate?.bytes),
      peakMib: { engine: mib(engine), trainer: mib(own), total: mib((engine ?? 0) + (own ?? 0)) },
      seconds,
      estimatedSeconds: estimate?.secondsPerIteration,
      finite,
      phases: estimate?.phases.map(({ name, pieces, bytes }) => ({
        name,
        pieces,
        mib: mib(bytes),
      })),
    },
    null,
    2,
  ));
} finally {
  await opened.release();
}
