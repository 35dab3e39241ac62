/**
 * `deno task gradient-norm`: the L2 norm of DRaFT-K's LoRA gradient against K on the embedded pipeline, with and without
 * the input stop-gradient (figure 7 of arXiv 2405.00760): of a new LoRA, and of a trained one that is given. Writes
 * docs/images/gradient_norm.png.
 *
 *     deno task gradient-norm [--lora PATH] [--steps T] [--seeds N] [--guidance X] [--out FOLDER]
 *
 * One pass gives every K: DRaFT-K's gradient is that of DRaFT-T with the contributions of the steps before the last K
 * left out, and what arrives at a step does not depend on the steps before it.
 */
import { mkdir, readFile } from "node:fs/promises";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { loraParts, readPipeline, unetModules } from "../models/diffusers/mod.ts";
import { loadLora, trainableLora } from "../models/lora/mod.ts";
import { loadReward, type Reward } from "../rewards/mod.ts";
import { openEngine } from "../runtime/mod.ts";
import { linePlot, type Panel, type Series } from "../services/cli/picture/mod.ts";
import {
  type Denoiser,
  type Float32Tensor,
  globalNorm,
  makeSampler,
  type Parameters,
  parseSchedulerConfig,
  PipelineModel,
  seededNoise,
  trainStep,
} from "../trainer/mod.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));

const { values } = parseArgs({
  args: Deno.args,
  options: {
    steps: { type: "string", default: "50" },
    seeds: { type: "string", default: "8" },
    out: { type: "string", default: join(ROOT, "docs/images") },
    guidance: { type: "string", default: "5" },
    lora: { type: "string" },
    threads: { type: "string" },
  },
});
const [T, seeds, guidance] = [
  Number(values.steps),
  Number(values.seeds),
  Number(values.guidance),
];
const session = values.threads === undefined ? {} : { intraOpNumThreads: Number(values.threads) };

/** Adds up parameters' gradients and keeps the norm after every addition. */
class RunningSum {
  readonly norms: number[] = [];
  readonly #sum: Record<string, Float32Tensor> = {};

  add(part: Parameters): void {
    for (const [name, { data, shape, dtype }] of Object.entries(part)) {
      const sum = this.#sum[name] ??= { dtype, shape, data: new Float32Array(data.length) };
      for (let i = 0; i < data.length; i++) sum.data[i] = (sum.data[i] ?? 0) + (data[i] ?? 0);
    }
    this.norms.push(globalNorm(this.#sum));
  }
}

/** A denoiser whose products run row by row, the last sampling step's first, each told to `seen`. */
function rowByRow(denoiser: Denoiser, seen: (part: Parameters) => void): Denoiser {
  return {
    predict: (rows) => denoiser.predict(rows),
    async vjp({ x, timesteps, branches }, cotangents, options) {
      const row = (
        { data, shape: [n = 1, ...inner] }: Float32Tensor,
        i: number,
      ): Float32Tensor => ({
        dtype: "float32",
        shape: [1, ...inner],
        data: data.subarray(i * data.length / n, (i + 1) * data.length / n),
      });
      let result: Awaited<ReturnType<Denoiser["vjp"]>> = { parameters: {} };
      for (const i of timesteps.keys()) {
        result = await denoiser.vjp(
          {
            x: row(x, i),
            timesteps: timesteps.slice(i, i + 1),
            branches: branches.map((b) =>
              Object.fromEntries(Object.entries(b).map(([name, t]) => [name, row(t, i)]))
            ),
          },
          cotangents.map((c) => row(c, i)),
          options,
        );
        seen(result.parameters);
      }
      return result;
    },
  };
}

/** Norms for K = 1..T at one seed. */
async function normsOf(
  { model, parameters, reward }: State,
  { prompt, seed, inputStopGradient }: {
    readonly prompt: string;
    readonly seed: number;
    readonly inputStopGradient: boolean;
  },
): Promise<readonly number[]> {
  const denoiser = await model.adapt(parameters);
  const running = new RunningSum();
  const latents = { channels: model.latentChannels, height: SIZE[0], width: SIZE[1] };
  await trainStep({
    prompts: model.prompts,
    decoder: model.decoder,
    denoiser: rowByRow(denoiser, (part) => running.add(part)),
  }, {
    sampler,
    plan: {
      trainSteps: Array.from({ length: T }, (_, i) => i + 1),
      tMin: 0,
      redraws: 0,
      inputStopGradient,
    },
    guidance: { scale: guidance, gradient: "both" },
    prompts: [prompt],
    noise: seededNoise([{ seed, iteration: 0, image: 0 }], latents),
    reward: {
      async evaluate(images, prompts) {
        const { gradient } = await reward.score(images, prompts, { gradient: true });
        if (gradient === undefined) throw new TypeError("The reward answered no gradient");
        return { loss: 0, gradient, rewards: {} };
      },
    },
  });
  await denoiser.release();
  return running.norms;
}

const pipeline = await readPipeline(join(ROOT, "zoo/pipeline"));
const SIZE = pipeline.unet.config.sampleSize ?? [16, 16];
const sampler = makeSampler({ kind: "ddpm", steps: T }, parseSchedulerConfig(pipeline.scheduler));
const engine = await openEngine({ isolation: "in-process" });
const reward = await loadReward(
  { kind: "clip", weights: join(ROOT, "zoo/rewards/clip") },
  { engine, ...(values.threads !== undefined && { threads: Number(values.threads) }) },
);
const prompts = (await readFile(join(ROOT, "zoo/prompts/concepts_held_out.txt"), "utf8"))
  .split("\n").filter(Boolean);

/** A LoRA whose gradient is measured. */
interface State {
  readonly name: string;
  readonly model: PipelineModel;
  readonly parameters: Parameters;
  readonly reward: Reward;
}

const fresh = new PipelineModel(pipeline, engine, { lora: { rank: 16, alpha: 16 }, session });
const states: State[] = [
  { name: "A new LoRA", model: fresh, parameters: fresh.initialParameters(0), reward },
];
if (values.lora !== undefined) {
  const { adapters, path } = await loadLora(values.lora, loraParts(pipeline));
  const lora = trainableLora(adapters, { layers: unetModules(pipeline.unet), path });
  const model = new PipelineModel(pipeline, engine, { lora, session });
  states.push({ name: "A trained LoRA", model, parameters: lora.tensors, reward });
}

const WAYS = [["without", false], ["with", true]] as const;
const panels: Panel[] = [];
for (const state of states) {
  const curves: Record<"without" | "with", (readonly number[])[]> = { without: [], with: [] };
  for (let seed = 0; seed < seeds; seed++) {
    const prompt = prompts[seed % prompts.length] ?? "";
    for (const [name, inputStopGradient] of WAYS) {
      curves[name].push(await normsOf(state, { prompt, seed, inputStopGradient }));
    }
    console.error(`${state.name}, seed ${seed} of ${seeds}`);
  }
  /** Quantile over the seeds, for each K. */
  const over = (name: "without" | "with", share: number) =>
    Array.from({ length: T }, (_, k) => {
      const sorted = curves[name].map((norms) => norms[k] ?? NaN).sort((a, b) => a - b);
      const at = share * (sorted.length - 1);
      return ((sorted[Math.floor(at)] ?? NaN) + (sorted[Math.ceil(at)] ?? NaN)) / 2;
    });
  const series = (name: string, color: string, norms: readonly number[]): Series => ({
    name,
    color,
    points: norms.map((n, k) => [k + 1, Math.log10(n)]),
  });
  panels.push({
    title: `${state.name}: log10 of the norm`,
    series: [
      series("", "#f0c3b4", over("without", 0)),
      series("", "#f0c3b4", over("without", 1)),
      series("", "#b9c6e8", over("with", 0)),
      series("", "#b9c6e8", over("with", 1)),
      series("through x", "#c8431d", over("without", 0.5)),
      series("stop-gradient", "#2b59c3", over("with", 0.5)),
    ],
  });
  console.log(`${state.name}: norm of the gradient, least, median and greatest of ${seeds} seeds`);
  for (const k of [1, 2, 5, 10, 15, 20, 30, 40, 50].filter((k) => k <= T)) {
    const row = WAYS.map(([name]) =>
      [0, 0.5, 1].map((share) => (over(name, share)[k - 1] ?? NaN).toPrecision(3)).join(" ")
    );
    console.log(`| ${k} | ${row.join(" | ")} |`);
  }
}
await reward.dispose();
await engine.close();

await mkdir(values.out, { recursive: true });
const png = join(values.out, "gradient_norm.png");
const label = `K of DRaFT-K, T = ${T}; median, least and greatest of ${seeds} seeds`;
await sharp(Buffer.from(linePlot(panels, label)), { density: 144 }).png({ palette: true })
  .toFile(png);
console.log(png);
