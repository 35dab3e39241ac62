/**
 * `deno task measure-step`: one DRTune step of a diffusers folder, whatever its size, with a given image gradient in
 * place of a reward's: estimated and measured memory of all its processes, and time by phase. With `--only unet` one
 * prediction of the U-Net, or of a flow's transformer, and one vector-Jacobian product against its LoRA.
 *
 *     deno task measure-step --model FOLDER [--only unet] [--latents 64] [--steps 4] [--k 2] [--m 2] [--guidance 7.5]
 *                            [--rank 32] [--memory-limit GIB] [--threads N] [--provider cpu]
 *                            [--precision float32] [--warm-up 0]
 *
 * What is measured runs `--warm-up` times before: networks are then loaded, and a GPU has chosen its kernels.
 */
import process from "node:process";
import { basename, dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { float32, sizeOf } from "../autodiff/mod.ts";
import { peakMemory } from "../runtime/mod.ts";
import {
  type AdaptedDenoiser,
  makeSampler,
  type OpenedModel,
  openRunModel,
  prepareRunConfig,
  randomStream,
  type RunConfig,
  seededNoise,
  selectSteps,
  trainBatch,
} from "../trainer/mod.ts";
import { providerOption } from "./_provider_option.ts";
import { StepProgress } from "./_step_progress.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "" },
    only: { type: "string" },
    latents: { type: "string" },
    steps: { type: "string", default: "4" },
    k: { type: "string", default: "2" },
    m: { type: "string", default: "2" },
    guidance: { type: "string", default: "7.5" },
    rank: { type: "string", default: "32" },
    "memory-limit": { type: "string" },
    threads: { type: "string" },
    provider: { type: "string", default: "cpu" },
    precision: { type: "string" },
    "warm-up": { type: "string", default: "0" },
  },
});
if (values.only !== undefined && values.only !== "unet") {
  console.error(`--only is ${JSON.stringify(values.only)}, expected unet`);
  process.exit(2);
}
const provider = providerOption(values.provider);
const whole = (text: string | undefined) => text === undefined ? undefined : Number(text);
const onlyUNet = values.only === "unet";
const folder = resolve(values.model);
const root = dirname(folder);
const size = whole(values.latents);
const config = await prepareRunConfig({
  model: basename(folder),
  // One prediction and one product are a step of one step.
  sampler: { steps: onlyUNet ? 1 : Number(values.steps) },
  method: onlyUNet
    ? { k: 1, m: 1, earlyStop: false }
    : { k: Number(values.k), m: Number(values.m) },
  guidance: { scale: Number(values.guidance) },
  lora: { rank: Number(values.rank) },
  latentHeight: size,
  latentWidth: size,
  memoryLimit: whole(values["memory-limit"]),
  precision: values.precision,
  prompts: ["a fox, and books"],
  rewards: [{ name: "given", endpoint: "given" }],
}, { root, session: { provider } });
const threads = whole(values.threads);
let progress: StepProgress | undefined;
const opened = await openRunModel(config, {
  root,
  session: { provider, ...(threads !== undefined && { intraOpNumThreads: threads }) },
  onRun: (graph) => progress?.begin(graph),
});
const mib = (bytes = NaN) => Math.round(bytes / 2 ** 20);
try {
  const { model, latents } = opened;
  const estimate = await opened.plan?.();
  const phases = estimate?.phases.filter(({ name }) =>
    !onlyUNet || name === "sampling" || /^(U-Net|transformer) gradient$/.test(name)
  );
  const denoiser = await model.adapt(model.initialParameters(0));
  const run = onlyUNet
    ? await unet(opened, { config, denoiser })
    : () => step(opened, { config, denoiser });
  for (let i = 0; i < Number(values["warm-up"]); i++) await run();
  if (phases !== undefined) progress = new StepProgress({ phases });
  const measured = await run();
  progress?.end();
  const [engine, own] = [await opened.peakMemory?.(), await peakMemory(process.pid)];
  console.log(JSON.stringify(
    {
      latents,
      memoryLimitGib: config.memoryLimit,
      precision: config.precision,
      ...(!onlyUNet && { estimatedMib: mib(estimate?.bytes) }),
      peakMib: { engine: mib(engine), trainer: mib(own), total: mib((engine ?? 0) + (own ?? 0)) },
      ...measured,
      phases: phases?.map(({ name, pieces, bytes, seconds }) => ({
        name,
        pieces,
        mib: mib(bytes),
        estimatedSeconds: seconds,
      })),
    },
    null,
    2,
  ));
} finally {
  progress?.end();
  await opened.release();
}

interface Work {
  readonly config: RunConfig;
  readonly denoiser: AdaptedDenoiser;
}

/** One step up to the gradients. */
async function step({ model, scheduler, latents }: OpenedModel, { config, denoiser }: Work) {
  const random = randomStream(0, "selection", { iteration: 1, image: 0 });
  const { seconds, gradients } = await trainBatch({
    prompts: model.prompts,
    decoder: model.decoder,
    denoiser,
  }, {
    sampler: makeSampler(config.sampler, scheduler),
    selection: selectSteps(config.method, { T: config.sampler.steps, random }),
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
  return { seconds, finite: allFinite(gradients) };
}

/** What runs one prediction and one product, in both branches of guidance where there are two. */
async function unet({ model, latents, ...opened }: OpenedModel, { config, denoiser }: Work) {
  const { conditional, unconditional } = await model.prompts.encode(config.prompts, latents);
  // Frees the text encoders, so that the peak is the U-Net's, as the estimates of its phases are.
  await model.dispose();
  const branches = config.guidance.scale === 1 ? [conditional] : [unconditional, conditional];
  const shape = [1, latents.channels, latents.height, latents.width];
  const x = float32(randomStream(0, "noise").normals(sizeOf(shape)), shape);
  const rows = { x, timesteps: [500], branches };
  const timed = async <T>(work: () => Promise<T>) => {
    const begun = performance.now();
    const result = await work();
    return { result, seconds: (performance.now() - begun) / 1000 };
  };
  return async () => {
    const forward = await timed(() => denoiser.predict(rows));
    const peakMibForward = mib(await opened.peakMemory?.());
    const product = await timed(() => denoiser.vjp(rows, forward.result, { input: false }));
    return {
      seconds: { forward: forward.seconds, gradient: product.seconds },
      peakMibForward,
      finite: allFinite(product.result.parameters),
    };
  };
}

function allFinite(gradients: Readonly<Record<string, { readonly data: Float32Array }>>): boolean {
  return Object.values(gradients).every(({ data }) => data.every(Number.isFinite));
}
